"""python -m pytest_tenantproof.cli"""

import sys

from pytest_tenantproof.cli import main

sys.exit(main())
