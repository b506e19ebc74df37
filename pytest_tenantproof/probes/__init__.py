"""Live attacks on two fresh tenants, in one transaction that is rolled back whatever happens."""

from pytest_tenantproof.probes.attacks import Breach
from pytest_tenantproof.probes.live import probe_live
from pytest_tenantproof.probes.run import Probed, probe
from pytest_tenantproof.probes.stored import Stored, scan, unknown
from pytest_tenantproof.probes.trail import Flaw, Trail, Tried, follow

__all__ = [
    "Breach",
    "Flaw",
    "Probed",
    "Stored",
    "Trail",
    "Tried",
    "follow",
    "probe",
    "probe_live",
    "scan",
    "unknown",
]
