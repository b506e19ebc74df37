"""Each table has a row made, touched and removed; each time the log must hold one event more, of that moment."""

import psycopg

from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.probes.rows import Row, key_of
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.probes.trail.scene import Flaw, Scene, Tried
from pytest_tenantproof.probes.values import ident, literal

__all__ = ["try_events"]

_CLOCKS = ("clock_timestamp()", "now()", "CURRENT_TIMESTAMP", "statement_timestamp()", "transaction_timestamp()")


def try_events(scene: Scene) -> Tried:
    """In an ordinary session and, where the session may, under session_replication_role = replica."""
    tried = Tried()
    for table in scene.catalog.tenant_tables:
        if table.is_partition:
            continue
        row = scene.further(table)
        if row is None:
            tried.problems[table.name] = scene.rows.problems.get(table.name, "no further row of it could be made")
            continue
        for mode in scene.modes:
            with savepoint(scene.connection):
                scene.set_mode(mode)
                _life(scene, tried, table, row, "" if mode == "origin" else f" in {mode} mode")
    return tried


def _life(scene: Scene, tried: Tried, table: Table, row: Row, how: str) -> None:
    where = "false"
    for operation in ("INSERT", "UPDATE", "DELETE"):
        before, since = _count(scene), _now(scene)
        try:
            if operation == "INSERT":
                where = _found_by(table, (scene.execute(row.insert).fetchone() or [{}])[0])
            elif operation == "UPDATE":
                scene.execute(scene.touch(table, where))
            else:
                scene.execute(f"DELETE FROM {table.name} WHERE {where}")
        except psycopg.Error as error:
            tried.problems[table.name] = f"{operation}{how} ended in {error.sqlstate}"
            return
        if _count(scene) == before:
            tried.flaws.append(Flaw(table.name, f"{operation}{how} left no event", operation=operation))
        elif _count(scene, since) == 0:
            tried.flaws.append(Flaw(table.name, f"{operation}{how} left an event of another time", operation=operation))
        else:
            tried.shown += 1


def _found_by(table: Table, values: dict[str, str | None]) -> str:
    pairs = [(table.column(name), values.get(name)) for name in key_of(table)]
    found = [f"{ident(c.name)} = {literal(v)}::{c.type}" for c, v in pairs if c and v is not None]
    return " AND ".join(found) or "false"


def _now(scene: Scene) -> str:
    row = scene.execute("SELECT clock_timestamp()::text").fetchone()
    return str(row[0]) if row else ""


def _count(scene: Scene, since: str = "") -> int:
    """How many events the tenant has, of all times or dated between `since` and now."""
    whole = 0
    for log in scene.logs:
        clock = next((column.name for column in log.columns if column.default in _CLOCKS), "")
        dated = f" AND {ident(clock)} BETWEEN {literal(since)} AND clock_timestamp()" if since and clock else ""
        row = scene.execute(f"SELECT count(*) FROM {log.name} WHERE {scene.mine(log)}{dated}").fetchone()
        whole += row[0] if row else 0
    return whole
