"""Everybody tries to change, remove and forge events.

A refusal counts only when the log's own guard made it. So everything else that might refuse is taken away first,
inside the transaction: missing privileges are granted, row security of the log is off.
"""

import contextlib
from collections.abc import Iterator

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.probes.defences import no_row_security
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.probes.trail.scene import Flaw, Scene, Tried
from pytest_tenantproof.probes.values import ident

__all__ = ["try_changes"]

_WRITES = ("INSERT", "UPDATE", "DELETE")


def try_changes(scene: Scene) -> Tried:
    """Each log by each role that this session can become, its own first; partitions by the strongest two alone.

    A table whose guard nobody reached is a problem.
    """
    tried = Tried()
    for log in scene.catalog.audit_tables:
        writers = _writers(scene.catalog, log)
        tried.flaws += [flaw for role in writers for flaw in _forge(scene, log, role)]
        shown = tried.shown
        with savepoint(scene.connection):
            _defences_down(scene, log, (*writers, log.owner))
            for role in ("", *(() if log.is_partition else writers), log.owner):
                for mode in scene.modes:
                    with savepoint(scene.connection):
                        if _becomes(scene, role, mode):
                            _change(scene, tried, log, role, mode)
        if tried.shown == shown:
            tried.problems.setdefault(log.name, "nobody reached its guard")
    return tried


def _writers(catalog: Catalog, log: Table) -> tuple[str, ...]:
    """Everybody who writes tenants' rows or owns their tables, and clients, service and scoped roles."""
    s, roles = catalog.settings, catalog.graph.roles
    named = {*catalog.client_roles, *s.service_roles, *s.scoped_roles}
    for table in catalog.tenant_tables:
        named |= {table.owner, *(g.grantee for g in table.grants if g.privilege in _WRITES)}
    return tuple(sorted(n for n in named if n in roles and n != log.owner and not roles[n].superuser))


def _forge(scene: Scene, log: Table, role: str) -> Iterator[Flaw]:
    """Events written by hand and guards switched off, with the rights that the role has today."""
    by_hand = f"INSERT INTO {log.name} DEFAULT VALUES"
    for operation, sql in (("INSERT", by_hand), ("ALTER", f"ALTER TABLE {log.name} DISABLE TRIGGER USER")):
        with savepoint(scene.connection):
            try:
                scene.become(role)
                scene.execute(sql)
                stopped = ""
            except psycopg.errors.InsufficientPrivilege:
                continue
            except psycopg.Error as error:
                stopped = f"; only {error.sqlstate} stopped it"
        yield Flaw(log.name, f"{role} may {operation} it by hand{stopped}", role, operation)


def _defences_down(scene: Scene, log: Table, roles: tuple[str, ...]) -> None:
    """As superuser or as the log's owner; a session that can be neither meets the missing grants instead."""
    everybody, owner = ", ".join(map(ident, roles)), "" if scene.superuser else log.owner
    _lower(scene, "", f"GRANT USAGE ON SCHEMA {ident(log.schema)} TO {everybody}")
    _lower(scene, owner, f"GRANT SELECT, UPDATE, DELETE, TRUNCATE ON {log.name} TO {everybody}")
    if scene.superuser:
        no_row_security(scene.connection, log)
    else:
        _lower(scene, owner, f"ALTER TABLE {log.name} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")


def _lower(scene: Scene, role: str, sql: str) -> None:
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege), scene.connection.transaction():
        scene.become(role)
        scene.execute(sql)
        scene.execute("RESET ROLE")


def _becomes(scene: Scene, role: str, mode: str) -> bool:
    try:
        scene.set_mode(mode)
        scene.become(role)
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def _change(scene: Scene, tried: Tried, log: Table, role: str, mode: str) -> None:
    who = (role or "the session's own role") + ("" if mode == "origin" else f" in {mode} mode")
    for operation, sql in _attacks(log).items():
        with savepoint(scene.connection):
            try:
                changed = scene.execute(sql).rowcount
            except psycopg.Error as error:
                if _by_guard(scene.catalog, log, error):
                    tried.shown += 1
                elif scene.superuser or error.sqlstate != "42501":
                    tried.problems[log.name] = f"{operation} by {who} ended in {error.sqlstate}"
                continue
            if changed or operation == "TRUNCATE":
                tried.flaws.append(Flaw(log.name, f"{who} changed it by {operation}", role, operation))
            elif scene.execute(f"SELECT FROM {log.name} LIMIT 1").rowcount:
                tried.problems[log.name] = f"{operation} by {who} reached neither an event nor the guard"


def _attacks(log: Table) -> dict[str, str]:
    """At most one event is touched, so that even a log of millions answers at once."""
    one = f"(tableoid, ctid) IN (SELECT tableoid, ctid FROM {log.name} LIMIT 1)"
    name = ident(next(c.name for c in log.columns if not c.generated and c.identity != "always"))
    return {
        "UPDATE": f"UPDATE {log.name} SET {name} = {name} WHERE {one}",
        "DELETE": f"DELETE FROM {log.name} WHERE {one}",
        "TRUNCATE": f"TRUNCATE {log.name}",
    }


def _by_guard(catalog: Catalog, log: Table, error: psycopg.Error) -> bool:
    """Whether a trigger of the log, or of a partition or parent of it, raised."""
    family = (log, *catalog.children_of(log), catalog.root_of(log))
    guards = {trigger.function for table in family for trigger in table.triggers}
    raised = error.diag.source_function == "exec_stmt_raise"
    return raised and any(guard in (error.diag.context or "") for guard in guards)
