"""Live attacks on two fresh tenants, in one transaction that is rolled back whatever happens."""

from pytest_tenantproof.probes.attacks import Breach
from pytest_tenantproof.probes.run import Probed, probe

__all__ = ["Breach", "Probed", "probe"]
