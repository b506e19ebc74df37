"""Evidence that one tenant of a Postgres database cannot reach another's data, as a pytest plugin.

These names are the public interface for writing your own controls. Importing them imports neither pytest
nor psycopg.
"""

from pytest_tenantproof.control import control, falsified_by
from pytest_tenantproof.model import Severity

__all__ = ["Severity", "__version__", "control", "falsified_by"]

__version__ = "0.1.0"
