"""Copies a unit: rows from the snapshot, through compression and encryption, into one object."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import psycopg
import zstandard
from psycopg import sql

from pytest_tenantproof.backup.format import Fingerprint, SegmentDigest, SegmentWriter, segment_context
from pytest_tenantproof.backup.manifest import PackObject, Segment
from pytest_tenantproof.backup.plan import PlannedTable
from pytest_tenantproof.backup.store import Store, Writer
from pytest_tenantproof.backup.units import Job, Share, Unit
from pytest_tenantproof.errors import BackupError

__all__ = ["Copied", "copy_unit", "escaped"]

_BATCH = 1 << 18
_AGAIN = "run again; if it happens again, report it with the run id."


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of a unit: its object, and the segments by archive."""

    pack: PackObject
    segments: tuple[tuple[str | None, Segment], ...]


def copy_unit(connection: psycopg.Connection[Any], store: Store, job: Job, unit: Unit) -> Copied:
    """Writes the unit's object. Raises BackupError, StoreError, psycopg.Error; then no object is there."""
    writer = store.writer(unit.object, lock=job.lock)
    try:
        segments = tuple(_UnitCopy(connection, writer, job, unit).run())
        stored = writer.commit()
    finally:
        writer.abort()
    return Copied(PackObject(stored.name, stored.size, stored.sha256, stored.version), segments)


class _UnitCopy:
    def __init__(self, connection: psycopg.Connection[Any], writer: Writer, job: Job, unit: Unit) -> None:
        self.connection, self.writer, self.job, self.unit = connection, writer, job, unit
        self.compressor = zstandard.ZstdCompressor(level=job.level)
        self.offset = 0
        self.by_index: bool | None = None

    def run(self) -> Iterator[tuple[str | None, Segment]]:
        """Table by table, each in one COPY ordered by tenant, so that a table's segments lie side by side."""
        for place, table in enumerate(self.job.tables):
            shares = [share for share in self.unit.shares if share.rows.get(place)]
            named = [share for share in shares if share.tenant is not None]
            for group in (named, [share for share in shares if share.tenant is None]):
                if group:
                    self._plan(by_index=table.indexed and group is named)
                    yield from self._table(table, place, group)

    def _plan(self, *, by_index: bool) -> None:
        """Where an index finds a tenant's rows, the planner's taste for scanning it all once for each pack
        would make the whole backup quadratic."""
        if self.by_index is not by_index:
            for method in ("hashjoin", "mergejoin", "seqscan", "bitmapscan"):
                setting, value = f"enable_{method}", "off" if by_index else "on"
                self.connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", [setting, value])
            self.by_index = by_index

    def _table(self, table: PlannedTable, place: int, shares: list[Share]) -> Iterator[tuple[str | None, Segment]]:
        with self.connection.cursor() as cursor, cursor.copy(_statement(table, shares)) as copy:
            rows = iter(copy)
            for share in shares:
                yield share.tenant, self._segment(table, share, rows, share.rows[place])
            if next(rows, None) is not None:
                raise BackupError(f"{table.name} gave more rows than were counted.", remedy=_AGAIN)

    def _segment(self, table: PlannedTable, share: Share, rows: Iterator[Any], number: int) -> Segment:
        context = segment_context(self.job.run, share.tenant, table.name, self.job.tables_sha256)
        key = bytes.fromhex(share.key)
        segment = SegmentWriter(self.writer.write, key, context, compressor=self.compressor)
        fingerprint = _pour(rows, number, segment, table, share.tenant)
        digest = segment.close()
        offset = self.offset
        self.offset += digest.length
        return _described(table.name, self.unit.object, offset, number, digest, fingerprint)


def _described(
    table: str, pack: str, offset: int, rows: int, digest: SegmentDigest, fingerprint: Fingerprint
) -> Segment:
    return Segment(
        table,
        pack,
        offset,
        digest.length,
        rows,
        digest.bytes,
        digest.sha256,
        digest.encrypted_sha256,
        fingerprint.hex(),
    )


def _statement(table: PlannedTable, shares: list[Share]) -> sql.Composed:
    """COPY of the shares' rows, in the order of the shares. Planned names are quoted SQL already."""
    if not table.tenant:
        text = f"SELECT {table.column_list} FROM {table.source}"
    elif shares[0].tenant is None:
        text = f"SELECT {table.column_list} FROM {table.source} WHERE {table.tenant} IS NULL"
    elif len(shares) == 1:
        one = sql.Literal(shares[0].tenant).as_string(None)
        text = f"SELECT {table.column_list} FROM {table.source} WHERE {table.tenant} = {one}::{table.tenant_type}"
    else:
        all_ = sql.Literal([share.tenant for share in shares]).as_string(None)
        text = (
            f"SELECT {table.column_list} FROM {table.source}"
            f" JOIN unnest({all_}::text[]) WITH ORDINALITY AS k(tenant, place)"
            f" ON {table.tenant} = k.tenant::{table.tenant_type} ORDER BY k.place"
        )
    return sql.SQL("COPY ({}) TO STDOUT").format(_Text(text))


class _Text(sql.Composable):
    """SQL that is composed and quoted already."""

    def as_bytes(self, context: Any = None) -> bytes:
        return str(self._obj).encode()

    def as_string(self, context: Any = None) -> str:
        return str(self._obj)


def _pour(
    rows: Iterator[Any], number: int, segment: SegmentWriter, table: PlannedTable, tenant: str | None
) -> Fingerprint:
    """Moves exactly `number` lines into the segment. This loop is the hot one."""
    fingerprint = Fingerprint()
    sha256, from_bytes = hashlib.sha256, int.from_bytes
    batch: list[Any] = []
    total = size = seen = 0
    row = first = None
    for row in islice(rows, number):
        if first is None:
            first = bytes(row)
        total += from_bytes(sha256(row).digest(), "big")
        batch.append(row)
        seen += 1
        size += len(row)
        if size >= _BATCH:
            segment.write(b"".join(batch))
            batch.clear()
            size = 0
    segment.write(b"".join(batch))
    fingerprint.total = total
    if seen != number:
        raise BackupError(f"{table.name} gave {seen} rows where {number} were counted.", remedy=_AGAIN)
    for line in (first, row):
        _check_line(bytes(line or b""), table, tenant)
    return fingerprint


def _check_line(line: bytes, table: PlannedTable, tenant: str | None) -> None:
    """Lines come ordered by tenant: when the first and the last are this tenant's, all are."""
    if line.count(b"\n") != 1 or not line.endswith(b"\n"):
        raise BackupError(f"{table.name}: a row is not one line of COPY text.", remedy=_AGAIN)
    if table.tenant_place >= 0 and tenant is not None:
        found = line[:-1].split(b"\t")[table.tenant_place]
        if found != escaped(tenant):
            raise BackupError(f"{table.name} gave another tenant's row.", remedy=_AGAIN)


_ESCAPES = str.maketrans({"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"})


def escaped(value: str) -> bytes:
    """A value as COPY's text format writes it (PostgreSQL, COPY, "Text Format")."""
    return value.translate(_ESCAPES).encode()
