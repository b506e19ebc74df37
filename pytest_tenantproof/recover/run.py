"""Plans, applies in batches, and undoes. Nothing is removed whose full content is not kept first."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import AuditError
from pytest_tenantproof.recover.hierarchy import Level, hierarchy
from pytest_tenantproof.recover.statements import Finder, name

__all__ = ["Step", "apply_plan", "plan", "undo"]

_KEEP = (Path(__file__).parent / "keep.sql").read_text(encoding="utf-8")
_LOCK = 0x7265636F766572
_REPAIR = "re-derived from its parent"


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done, or was done, to `rows` rows. `action` is repair or quarantine."""

    table: str
    action: str
    reason: str
    rows: int


class _Recovery:
    def __init__(self, connection: psycopg.Connection[Any], settings: Settings) -> None:
        self.connection = connection
        connection.execute("SET row_security = off")
        self.catalog = Catalog(read_snapshot(connection), settings)
        self.levels = hierarchy(self.catalog)
        registry = self.catalog.registry
        key = self.catalog.tenant_column(registry) if registry else None
        if registry is None or key is None:
            raise AuditError(f"{settings.tenant_table} does not exist.", remedy="correct tenant_table in the config.")
        self.finder = Finder(self.levels, registry.name, key.name)

    def plan(self) -> list[Step]:
        """Counts, in the order in which they are worked off."""
        found = []
        for level in self.levels:
            if (wrong := self._wrong(level)) is not None:
                rows = self._count(level, sql.SQL("({}) IS NULL AND {}").format(self.finder.reason(level), wrong))
                found += [Step(level.table, "repair", _REPAIR, rows)] if rows else []
        for level in reversed(self.levels):
            query = sql.SQL("SELECT why, count(*) FROM (SELECT {} AS why FROM {} r) w WHERE why IS NOT NULL GROUP BY 1")
            rows_ = self.connection.execute(query.format(self.finder.reason(level), name(level.table))).fetchall()
            found += [Step(level.table, "quarantine", why, rows) for why, rows in sorted(rows_)]
        return found

    def _count(self, level: Level, where: sql.Composed) -> int:
        query = sql.SQL("SELECT count(*) FROM {} r WHERE {}").format(name(level.table), where)
        row = self.connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def _wrong(self, level: Level) -> sql.Composed | None:
        differ = [
            sql.SQL("r.{} IS DISTINCT FROM {}").format(sql.Identifier(column), value)
            for column, value in self.finder.derived(level).items()
        ]
        return sql.SQL("({})").format(sql.SQL(" OR ").join(differ)) if differ else None

    def repairs(self, level: Level) -> sql.Composed | None:
        """One batch: mended rows go into the log with what they were."""
        wrong = self._wrong(level)
        if wrong is None:
            return None
        derived = self.finder.derived(level)
        values = [sql.SQL("{} AS {}").format(v, sql.Identifier(f"new_{c}")) for c, v in derived.items()]
        changes = [sql.SQL("{} = p.{}").format(sql.Identifier(c), sql.Identifier(f"new_{c}")) for c in derived]
        return sql.SQL(
            "WITH picked AS MATERIALIZED (SELECT r.ctid AS place, to_jsonb(r) AS content, {values} FROM {table} r"
            " WHERE ({reason}) IS NULL AND {wrong} LIMIT %(batch)s),"
            " done AS (UPDATE {table} u SET {changes} FROM picked p WHERE u.ctid = p.place"
            " RETURNING p.content, to_jsonb(u) AS became)"
            " INSERT INTO tenantproof.recovered (run, action, table_name, reason, content, became)"
            " SELECT %(run)s, 'repair', %(table)s, %(why)s, content, became FROM done"
        ).format(
            values=sql.SQL(", ").join(values),
            table=name(level.table),
            reason=self.finder.reason(level),
            wrong=wrong,
            changes=sql.SQL(", ").join(changes),
        )

    def quarantines(self, level: Level) -> sql.Composed:
        """One batch. A row that another still refers to waits: its removal could cascade."""
        return sql.SQL(
            "WITH picked AS MATERIALIZED (SELECT r.ctid AS place, to_jsonb(r) AS content, {reason} AS why"
            " FROM {table} r WHERE ({reason}) IS NOT NULL {free} LIMIT %(batch)s),"
            " done AS (DELETE FROM {table} u USING picked p WHERE u.ctid = p.place RETURNING p.content, p.why)"
            " INSERT INTO tenantproof.recovered (run, action, table_name, reason, content)"
            " SELECT %(run)s, 'quarantine', %(table)s, why, content FROM done"
        ).format(reason=self.finder.reason(level), table=name(level.table), free=sql.SQL("").join(self._free(level)))

    def _free(self, level: Level) -> Iterator[sql.Composed]:
        pairs: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        for child in self.levels:
            pairs |= {(child.table, ((p.column, p.key),)) for p in child.parents if p.table == level.table}
        for table in self.catalog.snapshot.tables:
            for key in table.constraints:
                if key.kind == "foreign" and key.target == level.table:
                    pairs.add((table.name, tuple(zip(key.columns, key.target_columns, strict=True))))
        for child_table, columns in sorted(pairs):
            same = [sql.SQL("c.{} = r.{}").format(sql.Identifier(a), sql.Identifier(b)) for a, b in columns]
            yield sql.SQL(" AND NOT EXISTS (SELECT FROM {} c WHERE {})").format(
                name(child_table), sql.SQL(" AND ").join(same)
            )

    def batches(self, level: Level, statement: sql.Composed | None, run: str, batch: int) -> int:
        """Runs it until nothing is left, one transaction each. Gives how many rows it took."""
        if statement is None:
            return 0
        values = {"batch": batch, "run": run, "table": level.table, "why": _REPAIR}
        rows, taken = 0, 1
        while taken:
            with self.connection.transaction():
                self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                tables = sql.SQL(", ").join(name(known.table) for known in self.levels)
                self.connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(tables))
                taken = self.connection.execute(statement, values).rowcount
            rows += taken
        return rows


def plan(connection: psycopg.Connection[Any], settings: Settings) -> list[Step]:
    """What is wrong and what would be done, changing nothing. Raises CatalogError or AuditError."""
    with _refusals(), connection.transaction(force_rollback=True):
        return _Recovery(connection, settings).plan()


def _past_row_security(connection: psycopg.Connection[Any], tables: Iterable[str]) -> None:
    """That row security hides no row of these tables from this role: else the server refuses.

    Then it is on again, and changes nothing for this role. Off, it would stop the triggers of the audit log, whose
    owner is bound by it.
    """
    connection.execute("SET row_security = off")
    for table in tables:
        connection.execute(sql.SQL("SELECT FROM {} LIMIT 0").format(name(table)))
    connection.execute("SET row_security = on")


@contextlib.contextmanager
def _refusals(after: str = "finished batches stand, each by itself") -> Iterator[None]:
    """What the server refuses, as an error of this tool: SQLSTATE and object, never the message, which quotes rows."""
    try:
        yield
    except psycopg.Error as error:
        diag = error.diag
        where = ", ".join(filter(None, (diag.table_name, diag.constraint_name))) or "the database"
        raise AuditError(
            f"{where} refused it ({error.sqlstate or type(error).__name__}); {after}.",
            remedy="give TENANTPROOF_<TARGET>_WRITER_DSN a role that owns the tables and bypasses row security.",
        ) from error


def apply_plan(connection: psycopg.Connection[Any], settings: Settings, run: str, batch: int = 1_000) -> list[Step]:
    """Repairs parents before children, then quarantines children before parents. Gives the plan that is left.

    Ended halfway, it goes on where it was when it is called again: each batch stands by itself. Raises AuditError.
    """
    with _refusals():
        recovery = _Recovery(connection, settings)
        connection.execute(_KEEP.encode())
        _past_row_security(connection, (level.table for level in recovery.levels))
        # A name that a login gives itself is not believed by the audit log, so the run is its request.
        connection.execute("SELECT set_config('app.request_id', %s, false)", (f"recover:{run}",))
        for level in recovery.levels:
            recovery.batches(level, recovery.repairs(level), run, batch)
        for level in reversed(recovery.levels):
            recovery.batches(level, recovery.quarantines(level), run, batch)
        return recovery.plan()


def undo(connection: psycopg.Connection[Any], run: str) -> int:
    """Puts every row of a run back as it was, in one transaction. Gives how many. Raises AuditError.

    A row that was changed since, or that no longer fits (a key was added), stops it all.
    """
    try:
        with _refusals("nothing was undone"):
            rows = _undo(connection, run)
    except AuditError as error:
        if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
            raise AuditError("recover was never applied here.", remedy="check --target.") from error
        if isinstance(error.__cause__, psycopg.errors.IntegrityError):
            raise AuditError(
                f"a row no longer fits ({error.__cause__.sqlstate}); nothing was undone.",
                remedy="undo before migrating further.",
            ) from error
        raise
    if not rows:
        raise AuditError(f"run {run} is unknown or undone already.", remedy="use the run that --apply printed.")
    return rows


def _undo(connection: psycopg.Connection[Any], run: str) -> int:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("SELECT set_config('app.request_id', %s, true)", (f"undo:{run}",))
        rows = connection.execute(
            "SELECT seq, action, table_name FROM tenantproof.recovered WHERE run = %s AND undone_at IS NULL"
            " ORDER BY seq DESC",
            (run,),
        ).fetchall()
        _past_row_security(connection, sorted({table for _, _, table in rows}))
        for seq, action, table in rows:
            _put_back(connection, seq, action, table)
        connection.execute(
            "UPDATE tenantproof.recovered SET undone_at = clock_timestamp() WHERE run = %s AND undone_at IS NULL",
            (run,),
        )
    return len(rows)


def _put_back(connection: psycopg.Connection[Any], seq: int, action: str, table: str) -> None:
    found = connection.execute(
        "SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a"
        " WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''",
        (table,),
    ).fetchone()
    columns = sql.SQL(", ").join(sql.Identifier(column) for column in (found[0] if found else ()))
    if action == "quarantine":
        text = sql.SQL(
            "INSERT INTO {t} ({c}) OVERRIDING SYSTEM VALUE SELECT {c} FROM jsonb_populate_record(NULL::{t},"
            " (SELECT content FROM tenantproof.recovered WHERE seq = %s))"
        )
    else:
        text = sql.SQL(
            "UPDATE {t} u SET ({c}) = (SELECT {c} FROM jsonb_populate_record(NULL::{t}, k.content))"
            " FROM tenantproof.recovered k WHERE k.seq = %s AND to_jsonb(u) = k.became"
        )
    if connection.execute(text.format(t=name(table), c=columns), (seq,)).rowcount != 1:
        raise AuditError(f"a row of {table} was changed since; nothing was undone.", remedy="put it back by hand.")
