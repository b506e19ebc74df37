"""Sealing audit events, and verifying them later."""

from pytest_tenantproof.audit.seals import Seal, read_seals, seal, seals_folder
from pytest_tenantproof.audit.verify import Tampered, compare

__all__ = ["Seal", "Tampered", "compare", "read_seals", "seal", "seals_folder"]
