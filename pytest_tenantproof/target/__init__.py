"""Where a run points: live, staging, container, embedded; read-only enforcement."""

from pytest_tenantproof.target.embedded import (
    EmbeddedPostgres,
    PostgresBin,
    find_bin,
    installed_bins,
    probe_bin,
    start,
)
from pytest_tenantproof.target.session import TargetInfo, connect, dsn_parts, open_session, rolled_back

__all__ = [
    "EmbeddedPostgres",
    "PostgresBin",
    "TargetInfo",
    "connect",
    "dsn_parts",
    "find_bin",
    "installed_bins",
    "open_session",
    "probe_bin",
    "rolled_back",
    "start",
]
