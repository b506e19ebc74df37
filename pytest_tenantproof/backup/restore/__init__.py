"""Restores: a backup into a new database, proven equal to its manifest, then swapped in by name."""

from pytest_tenantproof.backup.restore.guard import require_restorable
from pytest_tenantproof.backup.restore.run import RestoreRequest, RestoreResult, open_source, rebuild, run_restore

__all__ = ["RestoreRequest", "RestoreResult", "open_source", "rebuild", "require_restorable", "run_restore"]
