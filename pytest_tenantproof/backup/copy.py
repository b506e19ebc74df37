"""Copies a unit: rows from the snapshot, through compression and encryption, into one object."""

import contextlib
import hashlib
import select
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import zstandard
from psycopg import sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from pytest_tenantproof.backup.format import Fingerprint, SegmentDigest, SegmentWriter, segment_context
from pytest_tenantproof.backup.manifest import PackObject, Segment
from pytest_tenantproof.backup.plan import PlannedTable
from pytest_tenantproof.backup.store import Store, Writer
from pytest_tenantproof.backup.units import Job, Share, Unit
from pytest_tenantproof.errors import BackupError

__all__ = ["Copied", "copy_unit", "escaped"]

_BATCH = 1 << 16
_HELD = 64 << 20
"""Bytes of rows that are sorted out at once, at most: twice the estimate that packs are made by."""
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
        """Table by table, so that a table's segments lie side by side."""
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
            for method in ("hashjoin", "mergejoin", "seqscan"):
                setting, value = f"enable_{method}", "off" if by_index else "on"
                self.connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", [setting, value])
            self.by_index = by_index

    def _table(self, table: PlannedTable, place: int, shares: list[Share]) -> Iterator[tuple[str | None, Segment]]:
        gathered = _gathered(self.connection, table, shares) if len(shares) > 1 else None
        for share in shares:
            if gathered is not None:
                yield share.tenant, self._segment(table, place, share, gathered.pop(share.tenant or ""))[0]
                continue
            with contextlib.closing(_lines(self.connection, _one(table, share))) as lines:
                segment, poured = self._segment(table, place, share, lines)
            for line in (poured.first, poured.last):
                _check_line(line, table, share.tenant)
            yield share.tenant, segment

    def _segment(
        self, table: PlannedTable, place: int, share: Share, lines: Iterable[memoryview | bytes]
    ) -> tuple[Segment, "_Poured"]:
        context = segment_context(self.job.run, share.tenant, table.name, self.job.tables_sha256)
        key, counted = bytes.fromhex(share.key), share.rows[place]
        segment = SegmentWriter(self.writer.write, key, context, compressor=self.compressor)
        poured = _pour(lines, segment, fingerprint=self.job.fingerprints)
        digest = segment.close()
        if poured.rows != counted:
            raise BackupError(f"{table.name} gave {poured.rows} rows where {counted} were counted.", remedy=_AGAIN)
        offset = self.offset
        self.offset += digest.length
        return _described(table.name, self.unit.object, offset, counted, digest, poured.digests), poured


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


def _one(table: PlannedTable, share: Share) -> sql.Composed:
    """COPY of one share's rows. Planned names are quoted SQL already."""
    text = f"SELECT {table.column_list} FROM {table.source}"
    if not table.tenant:
        return _copy(text)
    if share.tenant is None:
        return _copy(f"{text} WHERE {table.tenant} IS NULL")
    return _copy(f"{text} WHERE {table.tenant} = {sql.Literal(share.tenant).as_string(None)}::{table.tenant_type}")


def _many(table: PlannedTable, shares: list[Share]) -> sql.Composed:
    """COPY of all the shares' rows as they lie, with the tenant before each."""
    all_ = sql.Literal([share.tenant for share in shares]).as_string(None)
    return _copy(
        f"SELECT ({table.tenant})::text, {table.column_list} FROM {table.source}"
        f" WHERE {table.tenant} = ANY ({all_}::{table.tenant_type}[])"
    )


def _copy(query: str) -> sql.Composed:
    return sql.SQL("COPY ({}) TO STDOUT").format(_Text(query))


class _Text(sql.Composable):
    """SQL that is composed and quoted already."""

    def as_bytes(self, context: Any = None) -> bytes:
        return str(self._obj).encode()

    def as_string(self, context: Any = None) -> str:
        return str(self._obj)


def _lines(connection: psycopg.Connection[Any], statement: sql.Composed) -> Generator[memoryview, None, None]:
    """The lines of a COPY, straight from libpq: psycopg's own iteration costs twice as much a row, and a backup
    does little else. Raises psycopg.Error."""
    pgconn, readable = connection.pgconn, select.poll()
    readable.register(pgconn.socket, select.POLLIN)
    with connection.cursor() as cursor, cursor.copy(statement):
        while True:
            size, line = pgconn.get_copy_data(1)
            if size > 0:
                yield line
            elif size == 0:
                readable.poll()
                pgconn.consume_input()
            else:
                break
        results = list(iter(pgconn.get_result, None))
        for result in results:
            if result.status != ExecStatus.COMMAND_OK:
                raise error_from_result(result)


def _gathered(
    connection: psycopg.Connection[Any], table: PlannedTable, shares: list[Share]
) -> dict[str, list[bytes]] | None:
    """The lines of many small tenants, sorted out here: a server that brings them in order reads its pages in
    disorder, which costs it more than all else. None when they are too many to hold; then each is read by itself."""
    tenants = {share.tenant or "": escaped(share.tenant or "") for share in shares}
    found: dict[bytes, list[bytes]] = {as_written: [] for as_written in tenants.values()}
    held = 0
    connection.execute("SAVEPOINT gathering")
    with contextlib.closing(_lines(connection, _many(table, shares))) as lines:
        try:
            for line in lines:
                tenant, _, row = bytes(line).partition(b"\t")
                found[tenant].append(row)
                held += len(row)
                if held > _HELD:
                    break
        except KeyError:
            raise BackupError(f"{table.name} gave another tenant's row.", remedy=_AGAIN) from None
    # A COPY that is left in the middle is cancelled, which ends a transaction, and with it the snapshot.
    connection.execute("ROLLBACK TO SAVEPOINT gathering" if held > _HELD else "RELEASE SAVEPOINT gathering")
    if held > _HELD:
        return None
    return {tenant: found[as_written] for tenant, as_written in tenants.items()}


@dataclass(slots=True)
class _Poured:
    """What a segment was filled with: lines, the sum of their digests, and the first and the last of them."""

    rows: int = 0
    digests: Fingerprint = field(default_factory=Fingerprint)
    first: bytes = b""
    last: bytes = b""

    def flush(self, batch: bytearray, segment: SegmentWriter) -> None:
        if not self.rows:
            self.first = bytes(batch[: batch.find(b"\n") + 1])
        self.rows += batch.count(b"\n")
        segment.write(batch)
        batch.clear()


def _pour(lines: Iterable[memoryview | bytes], segment: SegmentWriter, *, fingerprint: bool) -> _Poured:
    """Moves the lines into the segment. This loop is the hot one."""
    sha256, from_bytes = hashlib.sha256, int.from_bytes
    poured, batch, total = _Poured(), bytearray(), 0
    line: memoryview | bytes = b""
    for line in lines:
        batch += line
        if fingerprint:
            total += from_bytes(sha256(line).digest(), "big")
        if len(batch) >= _BATCH:
            poured.flush(batch, segment)
    poured.flush(batch, segment)
    poured.digests.total, poured.last = total, bytes(line)
    return poured


def _check_line(line: bytes, table: PlannedTable, tenant: str | None) -> None:
    """That they are this tenant's is what the query asks for; the first and the last are looked at."""
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
