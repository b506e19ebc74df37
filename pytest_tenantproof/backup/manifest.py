"""manifest.json: what a backup holds. It is signed and written last; a run without one is no backup."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pytest_tenantproof.backup.format import FORMAT, segment_context

__all__ = [
    "CATALOG_TABLE",
    "PAYLOAD_TYPE",
    "SCHEMA_TABLE",
    "TEXTS",
    "Archive",
    "Manifest",
    "ManifestTable",
    "PackObject",
    "PreviousRun",
    "RoleNeeded",
    "Segment",
    "SequenceState",
    "Source",
    "manifest_name",
    "run_time",
    "tables_digest",
]

PAYLOAD_TYPE = "application/vnd.tenantproof.backup+json"
SCHEMA_TABLE = "@schema"
CATALOG_TABLE = "@catalog"
TEXTS = {SCHEMA_TABLE: -1, CATALOG_TABLE: -2}
"""What of the shared archive is no table, and its number in a segment: no name of a table begins with @."""
_RUN = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{8}")


def run_time(run: str) -> datetime | None:
    """When a run of ours began, by its id; None for a name that is not ours."""
    match = _RUN.fullmatch(run)
    try:
        return datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def manifest_name(run: str) -> str:
    return f"runs/{run}/manifest.json"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows came from. `system_identifier` is pg_control_system()'s, "unknown" if not readable."""

    system_identifier: str
    database: str
    server_version: str
    encoding: str


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """The newest backup when this one began: run id and sha256 of its manifest as stored."""

    run: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ManifestTable:
    """A table, in dependency order: referenced tables come first (cycles aside). Names as format('%I.%I').

    `rows` is the count that a query of its own gave, in the same snapshot, beside the copying.
    """

    name: str
    columns: tuple[str, ...]
    tenant: str
    rows: int


@dataclass(frozen=True, slots=True)
class PackObject:
    """An object with segments. `version` pins what Object Lock protects."""

    name: str
    size: int
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One table of one archive. Absent tables have no rows. docs/BACKUP-FORMAT.md has the meaning of each."""

    table: str
    object: str
    offset: int
    length: int
    rows: int
    bytes: int
    sha256: str
    encrypted_sha256: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Archive:
    """One tenant's tables (`tenant` None: what belongs to no tenant, and the schema) under one data key."""

    tenant: str | None
    key_object: str
    key_id: str
    segments: tuple[Segment, ...]

    def segment(self, table: str) -> Segment | None:
        return next((s for s in self.segments if s.table == table), None)


@dataclass(frozen=True, slots=True)
class SequenceState:
    name: str
    last_value: int
    is_called: bool


@dataclass(frozen=True, slots=True)
class RoleNeeded:
    """A role that owns something or is granted something; never a password."""

    name: str
    login: bool
    superuser: bool
    bypass_rls: bool
    member_of: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """All that a restore needs beside the keys. `recipients` are the ids the keys were wrapped to at first;
    `schema_dump` names the pg_dump that wrote the schema, "" where none of the server's version was found.
    """

    run: str
    target: str
    started: str
    snapshot_at: str
    finished: str
    tool_version: str
    source: Source
    catalog_sha256: str
    previous: PreviousRun | None
    recipients: tuple[str, ...]
    tables: tuple[ManifestTable, ...]
    objects: tuple[PackObject, ...]
    archives: tuple[Archive, ...]
    schema_dump: str
    sequences: tuple[SequenceState, ...] = ()
    roles: tuple[RoleNeeded, ...] = ()
    ledger: tuple[dict[str, Any], ...] = ()
    extensions: tuple[str, ...] = ()
    not_included: tuple[str, ...] = ()
    schema: str = field(default=FORMAT)

    @cached_property
    def tables_sha256(self) -> str:
        return tables_digest([(t.name, t.columns) for t in self.tables])

    @cached_property
    def tenants(self) -> dict[str, Archive]:
        return {a.tenant: a for a in self.archives if a.tenant is not None}

    @property
    def shared(self) -> Archive:
        """The archive of global tables, rows without a tenant, and the schema."""
        return next(a for a in self.archives if a.tenant is None)

    @cached_property
    def packs(self) -> dict[str, PackObject]:
        return {o.name: o for o in self.objects}

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.snapshot_at)

    def table(self, name: str) -> ManifestTable:
        return next(t for t in self.tables if t.name == name)

    def context(self, archive: Archive, segment: Segment) -> bytes:
        """What the segment's chunks are bound to."""
        return segment_context(self.run, archive.tenant, segment.table, self.tables_sha256)

    def rows(self) -> int:
        return sum(t.rows for t in self.tables)


def tables_digest(tables: list[tuple[str, tuple[str, ...]]]) -> str:
    """sha256 over the names and columns of all tables: the set that every chunk is bound to."""
    listed = [[name, list(columns)] for name, columns in tables]
    return hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()
