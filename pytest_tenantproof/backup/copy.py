"""Copies a unit: rows from the snapshot, through compression and encryption, into one object."""

import contextlib
import select
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
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

_BATCH = 128 << 10
"""Bytes of rows that are compressed at once: what a processor's cache holds."""
_SLICE = 256
"""Lines of a small tenant that are compressed at once, as its lines are counted and not weighed."""
_HELD = 144 << 20
"""Bytes of rows that are sorted out at once, at most, each with `_LINE`."""
_LINE = 56
"""Bytes that Python needs for a line besides what it holds."""
_KEPT = 256
"""One line of so many is kept to the next pack: there are thousands of lines in what Python gives back at once."""
_Lines = Sequence[bytes | memoryview]
_AGAIN = "run again; if it happens again, report it with the run id."


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of a unit: its object, and the segments by archive."""

    pack: PackObject
    segments: tuple[tuple[str | None, Segment], ...]


def copy_unit(
    connection: psycopg.Connection[Any], store: Store, job: Job, unit: Unit, kept: list[bytes] | None = None
) -> Copied:
    """Writes the unit's object. Raises BackupError, StoreError, psycopg.Error; then no object is there.

    Given one list for all units, a process keeps a few lines of its largest pack in it, and with them the memory:
    pages that were given back and are asked for again cost more than what is done with them.
    """
    writer = store.writer(unit.object, lock=job.lock)
    try:
        segments = tuple(_UnitCopy(connection, writer, job, unit, kept).run())
        stored = writer.commit()
    finally:
        writer.abort()
    return Copied(PackObject(stored.name, stored.size, stored.sha256, stored.version), segments)


class _UnitCopy:
    def __init__(
        self, connection: psycopg.Connection[Any], writer: Writer, job: Job, unit: Unit, kept: list[bytes] | None
    ) -> None:
        self.connection, self.writer, self.job, self.unit, self.kept = connection, writer, job, unit, kept
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
        self._keep(gathered or {})
        for share in shares:
            if gathered is not None:
                lines = gathered.pop(share.tenant or "")
                yield share.tenant, self._segment(table, place, share, _slices(lines))
                continue
            with contextlib.closing(_batches(self.connection, _one(table, share))) as batches:
                yield share.tenant, self._segment(table, place, share, _checked(batches, table, share.tenant))

    def _keep(self, gathered: dict[str, list[bytes]]) -> None:
        few = [line for lines in gathered.values() for line in lines[::_KEPT]]
        if self.kept is not None and len(few) > len(self.kept):
            self.kept[:] = few

    def _segment(self, table: PlannedTable, place: int, share: Share, batches: Iterable[_Lines]) -> Segment:
        context = segment_context(self.job.run, share.tenant, table.name, self.job.tables_sha256)
        key, counted = bytes.fromhex(share.key), share.rows[place]
        segment = SegmentWriter(self.writer.write, key, context, compressor=self.compressor)
        rows, fingerprint = 0, Fingerprint()
        for lines in batches:
            segment.write(b"".join(lines))
            rows += len(lines)
            if self.job.fingerprints:
                fingerprint.add(lines)
        digest = segment.close()
        if rows != counted and place not in self.job.estimated:
            raise BackupError(f"{table.name} gave {rows} rows where {counted} were counted.", remedy=_AGAIN)
        offset = self.offset
        self.offset += digest.length
        return _described(table.name, self.unit.object, offset, rows, digest, fingerprint)


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
    name = sql.Literal(share.tenant).as_string(None)
    near = f" AND {table.near} = {name}::{table.near_type}" if table.near else ""
    return _copy(f"{text} WHERE {table.tenant} = {name}::{table.tenant_type}{near}")


def _many(table: PlannedTable, shares: list[Share]) -> sql.Composed:
    """COPY of all the shares' rows as they lie, with the tenant before each where the row does not tell it."""
    all_ = sql.Literal([share.tenant for share in shares]).as_string(None)
    near = f" AND {table.near} = ANY ({all_}::{table.near_type}[])" if table.near else ""
    first = f"({table.tenant})::text, " if table.tenant_place < 0 else ""
    return _copy(
        f"SELECT {first}{table.column_list} FROM {table.source}"
        f" WHERE {table.tenant} = ANY ({all_}::{table.tenant_type}[]){near}"
    )


def _copy(query: str) -> sql.Composed:
    return sql.SQL("COPY ({}) TO STDOUT").format(_Text(query))


class _Text(sql.Composable):
    """SQL that is composed and quoted already."""

    def as_bytes(self, context: Any = None) -> bytes:
        return str(self._obj).encode()

    def as_string(self, context: Any = None) -> str:
        return str(self._obj)


def _batches(connection: psycopg.Connection[Any], statement: sql.Composed) -> Generator[list[memoryview], None, None]:
    """The lines of a COPY, straight from libpq: psycopg's own iteration costs twice as much a row, and a backup
    does little else. Raises psycopg.Error."""
    pgconn, readable = connection.pgconn, select.poll()
    readable.register(pgconn.socket, select.POLLIN)
    receive = pgconn.get_copy_data
    with connection.cursor() as cursor, cursor.copy(statement):
        batch, held, size = list[memoryview](), 0, 0
        while size >= 0:
            size, line = receive(1)
            if size > 0:
                batch.append(line)
                held += size
                if held >= _BATCH:
                    yield batch
                    batch, held = [], 0
            elif size == 0:
                readable.poll()
                pgconn.consume_input()
        results = list(iter(pgconn.get_result, None))
        for result in results:
            if result.status != ExecStatus.COMMAND_OK:
                raise error_from_result(result)
    if batch:
        yield batch


def _gathered(
    connection: psycopg.Connection[Any], table: PlannedTable, shares: list[Share]
) -> dict[str, list[bytes]] | None:
    """The lines of many small tenants, sorted out here: a server that brings them in order reads its pages in
    disorder, which costs it more than all else. None when they are too many to hold; then each is read by itself."""
    found: dict[str, list[bytes]] = {share.tenant or "": [] for share in shares}
    place, last = table.tenant_place, table.tenant_place == len(table.columns) - 1
    keep = {escaped(tenant) + b"\n" * last: lines.append for tenant, lines in found.items()}
    held = 0
    connection.execute("SAVEPOINT gathering")
    with contextlib.closing(_batches(connection, _many(table, shares))) as batches:
        try:
            for batch in batches:
                for line in map(bytes, batch):
                    if place < 0:
                        tenant, _, row = line.partition(b"\t")
                        keep[tenant](row)
                    else:
                        keep[line.split(b"\t", place + 1)[place]](line)
                held += sum(map(len, batch)) + _LINE * len(batch)
                if held > _HELD:
                    break
        except KeyError:
            raise BackupError(f"{table.name} gave another tenant's row.", remedy=_AGAIN) from None
    # A COPY that is left in the middle is cancelled, which ends a transaction, and with it the snapshot.
    connection.execute("ROLLBACK TO SAVEPOINT gathering" if held > _HELD else "RELEASE SAVEPOINT gathering")
    return found if held <= _HELD else None


def _slices(lines: list[bytes]) -> Iterator[list[bytes]]:
    return (lines[begin : begin + _SLICE] for begin in range(0, len(lines), _SLICE))


def _checked(
    batches: Iterable[list[memoryview]], table: PlannedTable, tenant: str | None
) -> Iterator[list[memoryview]]:
    """That they are this tenant's is what the query asks for; the first and the last of each batch are looked at."""
    for batch in batches:
        for line in (batch[0], batch[-1]):
            _check_line(bytes(line), table, tenant)
        yield batch


def _check_line(line: bytes, table: PlannedTable, tenant: str | None) -> None:
    if line.find(b"\n") != len(line) - 1:
        raise BackupError(f"{table.name}: a row is not one line of COPY text.", remedy=_AGAIN)
    place = table.tenant_place
    if place >= 0 and tenant is not None:
        found = line.split(b"\t", place + 1)[place].removesuffix(b"\n")
        if found != escaped(tenant):
            raise BackupError(f"{table.name} gave another tenant's row.", remedy=_AGAIN)


_ESCAPES = str.maketrans({"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"})


def escaped(value: str) -> bytes:
    """A value as COPY's text format writes it (PostgreSQL, COPY, "Text Format")."""
    return value.translate(_ESCAPES).encode()
