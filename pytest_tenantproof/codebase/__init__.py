"""The user's own code, read and never run: who connects past the client, who writes past the gate."""

from pytest_tenantproof.codebase.connects import raw_connects
from pytest_tenantproof.codebase.scripts import ungated_writes
from pytest_tenantproof.codebase.sources import CodeBase, Found, read_code

__all__ = ["CodeBase", "Found", "raw_connects", "read_code", "ungated_writes"]
