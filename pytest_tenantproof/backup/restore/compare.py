"""Whether the restored rows are the backed-up rows: count and fingerprint of every table, tenant by tenant.

`python -m pytest_tenantproof.backup.restore.compare` is a worker of it: a job on standard input, its sums on
standard output.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from pytest_tenantproof.backup.copy import escaped
from pytest_tenantproof.backup.manifest import TEXTS, Archive, Manifest
from pytest_tenantproof.backup.plan import PlannedTable, read_plan
from pytest_tenantproof.backup.restore.empty import NOTHING_KEPT, Kept
from pytest_tenantproof.backup.snapshot import SESSION
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import RestoreError
from pytest_tenantproof.target import connect

__all__ = ["compare_rows", "main"]

Sums = dict[tuple[str, str], tuple[int, int]]
"""(table, tenant as COPY writes it) -> rows and the sum of their digests."""

_PAGES = 8192
"""Pages of a table that are one piece of work."""


@dataclass(frozen=True, slots=True)
class _Piece:
    table: str
    query: str


def compare_rows(
    dsn: str,
    settings: Settings,
    manifest: Manifest,
    archives: Iterable[Archive],
    *,
    workers: int,
    kept: Kept = NOTHING_KEPT,
) -> tuple[str, ...]:
    """What differs, in words without row content; empty when all is equal. `archives` are those restored; what
    was `kept` is not looked at."""
    with connect(dsn, limits={}) as connection:
        tables = [t for t in read_plan(connection, settings).tables if not kept.holds(t.name)]
        pieces = list(_pieces(connection, tables))
    shapes = {t.name: (t.columns, t.tenant_from) for t in tables}
    differs = [
        f"{t.name}: its columns or its way to the tenant differ"
        for t in manifest.tables
        if shapes.get(t.name) != (t.columns, t.tenant)
    ]
    differs += [f"{name}: a table that the backup does not hold" for name in shapes.keys() - _names(manifest)]
    if differs:
        return tuple(sorted(differs))
    expected = _expected(archives)
    found = _summed(dsn, pieces, workers)
    return tuple(
        _difference(key, expected, found)
        for key in sorted(expected.keys() | found.keys(), key=str)
        if expected.get(key) != found.get(key)
    )


def _names(manifest: Manifest) -> set[str]:
    return {table.name for table in manifest.tables}


def _expected(archives: Iterable[Archive]) -> Sums:
    return {
        (segment.table, r"\N" if archive.tenant is None else escaped(archive.tenant).decode()): (
            segment.rows,
            int(segment.fingerprint, 16),
        )
        for archive in archives
        for segment in archive.segments
        if segment.table not in TEXTS and segment.rows
    }


def _difference(key: tuple[str, str], expected: Sums, found: Sums) -> str:
    table, tenant = key
    wanted, there = expected.get(key, (0, 0))[0], found.get(key, (0, 0))[0]
    whose = "rows without a tenant" if tenant == r"\N" else f"tenant {tenant}"
    if wanted == there:
        return f"{table}, {whose}: {there} rows, but not the same"
    return f"{table}, {whose}: {there} rows where the backup has {wanted}"


def _pieces(connection: psycopg.Connection[Any], tables: Sequence[PlannedTable]) -> Iterator[_Piece]:
    """Queries of a line per row, tenant first. A large table is read in parts, by where its rows lie."""
    for table in tables:
        tenant = f"({table.tenant})::text" if table.tenant else "NULL::text"
        query = f"SELECT {tenant}, {table.column_list} FROM {table.source}"
        pages = _pages(connection, table)
        if pages <= _PAGES:
            yield _Piece(table.name, query)
            continue
        for begin in range(0, pages, _PAGES):
            until = "" if begin + _PAGES >= pages else f" AND t.ctid < '({begin + _PAGES},0)'"
            yield _Piece(table.name, f"{query} WHERE t.ctid >= '({begin},0)'{until}")


def _pages(connection: psycopg.Connection[Any], table: PlannedTable) -> int:
    """0 for a partitioned table, whose rows do not lie in one place."""
    row = connection.execute(
        "SELECT pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::int"
        " FROM pg_catalog.pg_class c WHERE c.oid = %s::regclass AND c.relkind = 'r'",
        [table.name],
    ).fetchone()
    return int(row[0]) if row else 0


def _summed(dsn: str, pieces: Sequence[_Piece], workers: int) -> Sums:
    count = max(1, min(workers, len(pieces)))
    shares = [[(p.table, p.query) for p in pieces[n::count]] for n in range(count)]
    jobs = [json.dumps({"dsn": dsn, "pieces": share}).encode() for share in shares]
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(_worker(job)) for job in jobs[1:]]
        total = _sums(dsn, shares[0])
        for process in others:
            assert process.stdout is not None
            answer = process.stdout.read()
            if process.wait() != 0:
                raise RestoreError("a process that compares rows failed.", remedy="restore again.")
            for table, tenant, rows, digest in json.loads(answer):
                had = total.get((table, tenant), (0, 0))
                total[table, tenant] = (had[0] + rows, (had[1] + int(digest, 16)) % (1 << 256))
    return total


@contextlib.contextmanager
def _worker(job: bytes) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "pytest_tenantproof.backup.restore.compare"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(job)
            process.stdin.close()
            yield process
        except BaseException:
            process.kill()
            raise


def _sums(dsn: str, pieces: Iterable[tuple[str, str]]) -> Sums:
    found: dict[tuple[str, bytes], list[int]] = {}
    with connect(dsn, limits={}) as connection, connection.transaction():
        for statement in SESSION:
            connection.execute(statement)
        for table, query in pieces:
            _add(connection, table, query, found)
    return {(table, tenant.decode()): (rows, total % (1 << 256)) for (table, tenant), (rows, total) in found.items()}


def _add(
    connection: psycopg.Connection[Any], table: str, query: str, found: dict[tuple[str, bytes], list[int]]
) -> None:
    sha256, from_bytes = hashlib.sha256, int.from_bytes
    last: bytes | None = None
    sums = [0, 0]
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT".encode()) as copy:
        for row in copy:
            tenant, _, line = bytes(row).partition(b"\t")
            if tenant != last:
                last, sums = tenant, found.setdefault((table, tenant), [0, 0])
            sums[0] += 1
            sums[1] += from_bytes(sha256(line).digest(), "big")


def main() -> None:
    job = json.load(sys.stdin)
    sums = _sums(job["dsn"], [tuple(piece) for piece in job["pieces"]])
    json.dump([[table, tenant, rows, f"{total:x}"] for (table, tenant), (rows, total) in sums.items()], sys.stdout)


if __name__ == "__main__":
    main()
