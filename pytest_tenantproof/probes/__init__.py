"""Live attacks on two fresh tenants, in one transaction that is rolled back whatever happens."""

from pytest_tenantproof.probes.attacks import Breach
from pytest_tenantproof.probes.live import probe_live
from pytest_tenantproof.probes.matrix import parts
from pytest_tenantproof.probes.probed import Probed, joined, of_plain, plain
from pytest_tenantproof.probes.run import probe, probe_share
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
    "joined",
    "of_plain",
    "parts",
    "plain",
    "probe",
    "probe_live",
    "probe_share",
    "scan",
    "unknown",
]
