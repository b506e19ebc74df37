"""One tenant's rows from a backup: what is missing beside others, brought back or written to a file for review."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.backup.manifest import Archive, ManifestTable
from pytest_tenantproof.backup.plan import PlannedTable, read_plan
from pytest_tenantproof.backup.restore.load import Source, read_segment, session
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import RestoreError

__all__ = ["TableDiff", "archive_of", "export_tenant", "restore_tenant"]

Connection = psycopg.Connection[Any]
_STATES = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}


@dataclass(frozen=True, slots=True)
class TableDiff:
    """Rows of one tenant in one table as they were found: not in the database, there but different, and not in the
    backup."""

    table: str
    missing: int
    differing: int
    extra: int


def archive_of(source: Source, tenant: str) -> Archive:
    """Raises RestoreError for a tenant that the backup does not hold, or that was erased."""
    if tenant in source.skipped:
        raise RestoreError(f"tenant {tenant} was erased and is not brought back.", remedy="there is none, on purpose.")
    if tenant not in source.manifest.tenants:
        raise RestoreError(f"the backup holds no tenant {tenant}.", remedy="check the id, or take an older backup.")
    return source.manifest.tenants[tenant]


def restore_tenant(
    dsn: str, source: Source, settings: Settings, tenant: str, *, dry_run: bool, put_back: bool = False
) -> tuple[TableDiff, ...]:
    """Adds the rows that are missing, in one transaction: foreign keys hold, other triggers do not fire. With
    `put_back`, rows that differ become what they were. Rows that the backup lacks are counted and left alone, and
    nothing of another tenant is ever touched. `dry_run` counts alone.

    Raises RestoreError, FormatError; then nothing was changed.
    """
    archive = archive_of(source, tenant)
    with session(dsn) as connection:
        plan = {table.name: table for table in read_plan(connection, settings).tables}
        with connection.transaction(force_rollback=dry_run):
            diffs = []
            for number, table in enumerate(source.manifest.tables):
                planned = plan.get(table.name)
                if planned is None or planned.columns != table.columns or planned.tenant_from != table.tenant:
                    raise RestoreError(
                        f"{table.name} is not as it was when the backup was made.",
                        remedy="restore the whole backup elsewhere, and move the rows by hand.",
                    )
                if planned.tenant:
                    one = _Table(connection, source, archive, planned, f"tp_restored_{number}")
                    diffs.append(one.bring_back(put_back=put_back))
    return tuple(diff for diff in diffs if diff.missing or diff.differing or diff.extra)


class _Table:
    def __init__(self, connection: Connection, source: Source, archive: Archive, table: PlannedTable, name: str):
        self.connection, self.source, self.archive, self.table = connection, source, archive, table
        self.parts: Mapping[str, sql.Composable] = {
            "there": sql.SQL(table.name),
            "backup": sql.Identifier("pg_temp", name),
            "columns": _columns("", table.columns),
            "b": _columns("b", table.columns),
            "mine": sql.SQL(
                f"(SELECT t.ctid, t.tableoid, {table.column_list} FROM {table.source}"
                f" WHERE {table.tenant} = {sql.Literal(archive.tenant).as_string(None)}::{table.tenant_type}) AS c"
            ),
            "c": _columns("c", table.columns),
            "same": self._same(),
        }

    def _same(self) -> sql.Composable:
        """By primary key; a table without one has nothing but the whole row."""
        rows = self.connection.execute(
            "SELECT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a"
            " ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
            " WHERE i.indrelid = %s::regclass AND i.indisprimary",
            [self.table.name],
        ).fetchall()
        if not rows:
            return sql.SQL("ROW({b})::text = ROW({c})::text").format(
                b=_columns("b", self.table.columns), c=_columns("c", self.table.columns)
            )
        return sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier("b", name), sql.Identifier("c", name)) for (name,) in rows
        )

    def _run(self, text: str) -> "psycopg.Cursor[Any]":
        return self.connection.execute(sql.SQL(text).format(**self.parts))

    def _count(self, text: str) -> int:
        row = self._run(text).fetchone()
        assert row is not None
        return int(row[0])

    def bring_back(self, *, put_back: bool) -> TableDiff:
        self._run("CREATE TEMPORARY TABLE {backup} ON COMMIT DROP AS SELECT {columns} FROM {there} WITH NO DATA")
        segment = self.archive.segment(self.table.name)
        if segment is not None:
            statement = sql.SQL("COPY {backup} ({columns}) FROM STDIN").format(**self.parts)
            with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
                for piece in read_segment(self.source, self.archive, segment):
                    copy.write(piece)
        absent = "FROM {backup} AS b WHERE NOT EXISTS (SELECT FROM {there} AS c WHERE {same})"
        missing = self._count(f"SELECT count(*) {absent}")
        differ = "FROM {backup} AS b JOIN {there} AS c ON {same} WHERE ROW({b})::text <> ROW({c})::text"
        differing = self._count(f"SELECT count(*) {differ}")
        extra = self._count("SELECT count(*) FROM {mine} WHERE NOT EXISTS (SELECT FROM {backup} AS b WHERE {same})")
        if missing or (differing and put_back):
            states = self._quieten()
            if differing and put_back:
                self._put_back(differ, differing)
            self._run(f"INSERT INTO {{there}} ({{columns}}) OVERRIDING SYSTEM VALUE SELECT {{b}} {absent}")
            for relation, trigger, state in states:
                self._trigger(relation, _STATES[state], trigger)
        return TableDiff(self.table.name, missing, differing, extra)

    def _put_back(self, differ: str, differing: int) -> None:
        """Only rows that are this tenant's now: its key in another tenant's hands is nothing to decide here."""
        changed = self._writable()
        parts = {**self.parts, "set": sql.SQL(", ").join(map(sql.Identifier, changed)), "to": _columns("b", changed)}
        done = (
            self.connection.execute(
                sql.SQL(
                    "UPDATE {there} AS t SET ({set}) = ROW({to}) FROM {backup} AS b JOIN {mine} ON {same}"
                    " WHERE t.ctid = c.ctid AND t.tableoid = c.tableoid AND ROW({b})::text <> ROW({c})::text"
                ).format(**parts)
            )
            if changed
            else None
        )
        if done is None or done.rowcount != differing or self._count(f"SELECT count(*) {differ}"):
            raise RestoreError(
                f"rows of {self.table.name} cannot be put back: they are another tenant's now, or an identity differs.",
                remedy="look at them; write a script with --out, and decide by hand.",
            )

    def _writable(self) -> tuple[str, ...]:
        """Columns but identities that are always generated, which nobody can write."""
        rows = self.connection.execute(
            "SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0"
            " AND NOT a.attisdropped AND a.attidentity <> 'a' ORDER BY a.attnum",
            [self.table.name],
        ).fetchall()
        return tuple(name for (name,) in rows if name in self.table.columns)

    def _quieten(self) -> list[tuple[str, str, str]]:
        """Turns off what the product's triggers do on INSERT, partitions included; foreign keys stay on."""
        rows = self.connection.execute(
            "SELECT t.tgrelid::regclass::text, t.tgname::text, t.tgenabled::text FROM pg_catalog.pg_trigger t"
            " WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND (t.tgrelid = %s::regclass"
            " OR t.tgrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(%s::regclass))) ORDER BY 1, 2",
            [self.table.name, self.table.name],
        ).fetchall()
        for relation, trigger, _ in rows:
            self._trigger(relation, "DISABLE", trigger)
        return rows

    def _trigger(self, relation: str, how: str, trigger: str) -> None:
        statement = sql.SQL(f"ALTER TABLE ONLY {relation} {how} TRIGGER {{}}")
        self.connection.execute(statement.format(sql.Identifier(trigger)))


def _columns(alias: str, names: tuple[str, ...]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names)


def export_tenant(source: Source, tenant: str, path: Path) -> int:
    """Writes a script for psql that adds all of the tenant's rows, to be reviewed first. The file is new, and its
    owner's alone. Returns the number of rows. Raises RestoreError, FormatError; then there is no file."""
    archive = archive_of(source, tenant)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise RestoreError(f"{path} cannot be made: {error.strerror}.", remedy="name a new file.") from None
    try:
        with os.fdopen(handle, "wb") as out:
            for piece in _script(source, archive):
                out.write(piece)
    except BaseException:
        path.unlink()
        raise
    return sum(segment.rows for segment in archive.segments)


def _script(source: Source, archive: Archive) -> Iterator[bytes]:
    yield f"-- Tenant {archive.tenant!a} of backup {source.manifest.run}.\n".encode()
    yield b"-- psql -v ON_ERROR_STOP=1 --single-transaction -f THIS\n\n"
    for table in source.manifest.tables:
        segment = archive.segment(table.name)
        if segment is not None:
            yield _copy(table)
            yield from read_segment(source, archive, segment)
            yield b"\\.\n\n"


def _copy(table: ManifestTable) -> bytes:
    columns = _columns("", table.columns).as_string(None)
    return f"COPY {table.name} ({columns}) FROM stdin;\n".encode()
