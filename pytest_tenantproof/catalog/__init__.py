"""Set-based SQL -> one immutable Snapshot (a fixed number of queries, any size)."""

from pytest_tenantproof.catalog.canonical import digest, from_json, part_digests, to_json
from pytest_tenantproof.catalog.model import Snapshot
from pytest_tenantproof.catalog.read import read_snapshot
from pytest_tenantproof.catalog.view import Catalog, Kind, Link

__all__ = ["Catalog", "Kind", "Link", "Snapshot", "digest", "from_json", "part_digests", "read_snapshot", "to_json"]
