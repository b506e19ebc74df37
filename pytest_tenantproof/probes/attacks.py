"""One identity against one table: what it must not do to another tenant's row, and why it could not.

A refusal counts only for the right reason. So before an attack everything else that might refuse it is taken
away inside the transaction: missing privileges are granted, triggers and foreign keys are disabled. What then
still holds is row security. What got past it and was stopped by a constraint is a breach all the same.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.probes.defences import take_down
from pytest_tenantproof.probes.identities import Identity
from pytest_tenantproof.probes.rows import Row, Tenant
from pytest_tenantproof.probes.savepoints import last, savepoint
from pytest_tenantproof.probes.values import ident, literal

__all__ = ["Attempt", "Breach", "Target", "attack_table", "statements"]

_POLICY = "42501"
_CONSTRAINTS = "23"
_ROW_SECURITY = ("ExecWithCheckOptions", "check_enable_rls")
"""The server's functions that refuse in the name of row security: 42501 alone may be a missing grant on anything."""


@dataclass(frozen=True, slots=True)
class Breach:
    """Another tenant's row was reached. `script` shows it in psql, with made-up values, and rolls back."""

    object: str
    operation: str
    identity: Identity
    detail: str
    script: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one statement: refused for the right reason, a breach, or nothing that can be counted."""

    object: str
    operation: str
    identity: Identity
    breach: Breach | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A table, the victim's row in it, one more row of the victim's as SQL and as values, and how to make a row the
    attacker's."""

    table: Table
    row: Row
    insert: str
    steal: str
    move: str
    delete: str
    setup: tuple[str, ...]
    copied: Mapping[str, str | None] = field(default_factory=dict)


_LOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
Judge = Callable[[Any], str]


class _Attack:
    """Runs statements as an identity, on a table whose other defences are down."""

    def __init__(
        self, connection: psycopg.Connection[Any], catalog: Catalog, target: Target, identity: Identity
    ) -> None:
        self.connection, self.catalog, self.target, self.identity = connection, catalog, target, identity
        self.table = target.table

    def attempt(self, operation: str, sql: str, judge: Judge, privilege: str) -> Attempt:
        with savepoint(self.connection, self.identity.become, sql) as tried:
            try:
                said = judge(tried())
            except psycopg.Error as error:
                return self._refused(operation, sql, error, privilege)
        return self._attempt(operation, sql, said, privilege)

    def _attempt(self, operation: str, sql: str, said: str, privilege: str) -> Attempt:
        if not said:
            return Attempt(self.table.name, operation, self.identity)
        hidden = ""
        if privilege not in self.catalog.privileges(self.table, self.identity.role):
            hidden = f"; today only the missing {privilege} privilege hides it"
        script = "\n".join(
            ("BEGIN;", *(f"{s};" for s in self.target.setup), f"{self.identity.become};", f"{sql};", "ROLLBACK;")
        )
        breach = Breach(self.table.name, operation, self.identity, f"{self.identity.name} {said}{hidden}", script)
        return Attempt(self.table.name, operation, self.identity, breach)

    def _refused(self, operation: str, sql: str, error: psycopg.Error, privilege: str) -> Attempt:
        state = error.sqlstate or ""
        if state.startswith(_CONSTRAINTS) and operation not in ("SELECT", "COPY TO"):
            name = error.diag.constraint_name or error.diag.column_name or state
            return self._attempt(operation, sql, f"got past row security: only {name} stopped it", privilege)
        by_policy = state == _POLICY and error.diag.source_function in _ROW_SECURITY
        if by_policy or (self.identity.unsure and state[:2] in ("22", "P0", "TP", "42", "28")):
            return Attempt(self.table.name, operation, self.identity)
        return Attempt(self.table.name, operation, self.identity, problem=f"ended in {state or type(error).__name__}")

    def copy_out(self, sql: str, strange: Callable[[bytes], bool]) -> Attempt:
        """COPY to the client, and whether a line is another tenant's."""
        found = False
        with savepoint(self.connection, self.identity.become) as tried:
            try:
                tried()
                with self.connection.cursor().copy(sql.encode()) as copy:
                    for line in copy:  # to the end: a copy that is broken off leaves the session unusable
                        found = found or strange(bytes(line))
            except psycopg.Error as error:
                if not found:
                    return self._refused("COPY TO", sql, error, "SELECT")
        return self._attempt("COPY TO", sql, _found(found), "SELECT")

    def copy_in(self, sql: str) -> Attempt:
        """COPY of one more row of the victim's; PostgreSQL refuses it wherever row security binds the role."""
        with savepoint(self.connection, self.identity.become) as tried:
            try:
                tried()
                with self.connection.cursor().copy(sql.encode()) as copy:
                    copy.write_row(list(self.target.copied.values()))
            except psycopg.errors.FeatureNotSupported as error:
                problem = "" if error.diag.source_function == "DoCopy" else f"ended in {error.sqlstate}"
                return Attempt(self.table.name, "COPY FROM", self.identity, problem=problem)
            except psycopg.Error as error:
                return self._refused("COPY FROM", sql, error, "INSERT")
        return self._attempt("COPY FROM", sql, "wrote a row of another tenant", "INSERT")

    def state(self) -> Any:
        """Where the victim's rows are stored: any write to them moves or removes them."""
        places = "array_agg(tableoid::text || ctid ORDER BY tableoid, ctid)"
        sql = f"SELECT {places} FROM {self.table.name} WHERE {self.target.row.where}"
        found = last(self.connection.execute(f"RESET SESSION AUTHORIZATION; RESET ROLE; {sql}".encode())).fetchone()
        return found[0] if found else None

    def changed(self, before: Any, how: str) -> Judge:
        """Says `how` when the victim's rows are no longer where they were."""

        return lambda _: how if self.state() != before else ""


def attack_table(
    connection: psycopg.Connection[Any],
    catalog: Catalog,
    target: Target,
    identities: tuple[Identity, ...],
    *,
    superuser: bool,
) -> Iterator[Attempt]:
    """Every attack of every identity. A superuser's session disables foreign keys too."""
    for role in dict.fromkeys(identity.role for identity in identities):
        mine = tuple(identity for identity in identities if identity.role == role)
        for identity in mine:
            yield _truncate(_Attack(connection, catalog, target, identity))
        with savepoint(connection):
            take_down(connection, catalog, target.table, role, superuser=superuser)
            attacks = [_Attack(connection, catalog, target, identity) for identity in mine]
            before = attacks[0].state()
            for attack in attacks:
                yield from _attacks(attack, before)


def _attacks(attack: _Attack, before: Any) -> Iterator[Attempt]:
    target, table = attack.target, attack.table.name
    seen = f"SELECT EXISTS (SELECT FROM {table} WHERE {' OR '.join(_foreign(attack))})"
    yield attack.attempt("SELECT", seen, lambda c: _found(c.fetchone()[0]), "SELECT")
    steal, delete = _sparing(attack, target.steal), _sparing(attack, target.delete)
    yield attack.attempt("UPDATE", steal, attack.changed(before, "changed another tenant's row"), "UPDATE")
    yield attack.attempt("DELETE", delete, attack.changed(before, "deleted another tenant's row"), "DELETE")
    if target.insert:
        yield attack.attempt("INSERT", target.insert, lambda c: _wrote(c.rowcount), "INSERT")
    yield _copies_out(attack)
    if target.copied:
        columns = ", ".join(ident(name) for name in target.copied)
        yield attack.copy_in(f"COPY {table} ({columns}) FROM STDIN")
    if target.move and attack.identity.lawful:
        yield attack.attempt("MOVE", target.move, lambda c: _moved(c.rowcount), "UPDATE")


def _sparing(attack: _Attack, sql: str) -> str:
    """The statement without the attacker's rows in further tenants of its own, which it may well reach."""
    column, further = attack.catalog.tenant_column(attack.table), attack.identity.tenants[1:]
    if column is None or not further or " WHERE " in sql:
        return sql
    return f"{sql} WHERE {ident(column.name)} NOT IN ({', '.join(f'{literal(t)}::{column.type}' for t in further)})"


def _foreign(attack: _Attack) -> Iterator[str]:
    """The victim's row, and rows that were there before the attack, of any tenant but the attacker's own."""
    yield f"({attack.target.row.where})"
    if column := attack.catalog.tenant_column(attack.table):
        mine = ", ".join(f"{literal(tenant)}::{column.type}" for tenant in attack.identity.tenants)
        yield f"{ident(column.name)} {f'NOT IN ({mine})' if mine else 'IS NOT NULL'}"


def _copies_out(attack: _Attack) -> Attempt:
    """The tenant column of every row that COPY gives; of tables without one, the victim's rows."""
    column, table = attack.catalog.tenant_column(attack.table), attack.table
    if column is None or table.kind != "table":
        sql = f"COPY (SELECT 1 FROM {table.name} WHERE {attack.target.row.where}) TO STDOUT"
        return attack.copy_out(sql, bool)
    mine = {b"\\N", *(tenant.encode() for tenant in attack.identity.tenants)}
    return attack.copy_out(f"COPY {table.name} ({ident(column.name)}) TO STDOUT", lambda line: line.strip() not in mine)


def _found(count: int) -> str:
    return "read another tenant's row" if count else ""


def _wrote(count: int) -> str:
    return "wrote a row of another tenant" if count > 0 else ""


def _moved(count: int) -> str:
    return "gave its own row to another tenant" if count > 0 else ""


def _truncate(attack: _Attack) -> Attempt:
    """TRUNCATE knows no row security: only the privilege stands in the way, so none is granted here.

    The privilege is asked for before any lock, so whoever waits for a lock of another session holds it.
    """
    sql = f"TRUNCATE {attack.table.name}"
    with savepoint(attack.connection, "SET LOCAL lock_timeout = '300ms'", attack.identity.become, sql) as tried:
        try:
            tried()
        except psycopg.errors.InsufficientPrivilege:
            return Attempt(attack.table.name, "TRUNCATE", attack.identity)
        except (psycopg.errors.FeatureNotSupported, *_LOCKED):
            said = "may truncate the table: only a foreign key or a lock stopped it"
            return attack._attempt("TRUNCATE", sql, said, "TRUNCATE")
        except psycopg.Error as error:
            return Attempt(attack.table.name, "TRUNCATE", attack.identity, problem=f"ended in {error.sqlstate}")
    return attack._attempt("TRUNCATE", sql, "emptied the table of every tenant", "TRUNCATE")


def statements(catalog: Catalog, table: Table, row: Row, a: Tenant, b: Tenant) -> tuple[str, str]:
    """How to make every row the attacker's (`steal`), and the attacker's the victim's (`move`)."""
    column = catalog.tenant_column(table)
    if column is not None and table.name != catalog.settings.tenant_table:
        change = f"UPDATE {table.name} SET {ident(column.name)} = {{}}::{column.type}"
        return change.format(literal(a.id)), change.format(literal(b.id))
    keys = {name for c in table.constraints if c.kind in ("primary", "foreign", "unique") for name in c.columns}
    keys |= {name for index in table.indexes if index.unique for name in index.columns}
    plain = (c for c in table.columns if c.name not in keys and not c.generated and not c.identity)
    chosen = next((c for c in plain if row.values.get(c.name) is not None), None)
    if chosen is None:
        return f"DELETE FROM {table.name}", ""
    value = literal(str(row.values[chosen.name]))
    return f"UPDATE {table.name} SET {ident(chosen.name)} = {value}::{chosen.type}", ""
