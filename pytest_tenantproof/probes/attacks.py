"""One identity against one table: what it must not do to another tenant's row, and why it could not.

A refusal counts only for the right reason. So before an attack everything else that might refuse it is taken
away inside the transaction: missing privileges are granted, triggers and foreign keys are disabled. What then
still holds is row security. What got past it and was stopped by a constraint is a breach all the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.probes.identities import Identity
from pytest_tenantproof.probes.rows import Row, Tenant, savepoint
from pytest_tenantproof.probes.values import literal

__all__ = ["Attempt", "Breach", "Target", "attack_table", "grants", "statements"]

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
    """A table, the victim's row in it, one more row of the victim's as SQL, and how to make a row the attacker's."""

    table: Table
    row: Row
    insert: str
    steal: str
    move: str
    delete: str
    setup: tuple[str, ...]
    attacker: str
    """The attacker's tenant."""


Judge = Callable[[Any], str]


class _Attack:
    """Runs statements as an identity, on a table whose other defences are down."""

    def __init__(
        self, connection: psycopg.Connection[Any], catalog: Catalog, target: Target, identity: Identity
    ) -> None:
        self.connection, self.catalog, self.target, self.identity = connection, catalog, target, identity
        self.table = target.table

    def attempt(self, operation: str, sql: str, judge: Judge, privilege: str) -> Attempt:
        with savepoint(self.connection):
            try:
                self.connection.execute(self.identity.become.encode())
                cursor = self.connection.execute(sql.encode())
                said = judge(cursor)
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
        if state.startswith(_CONSTRAINTS) and operation != "SELECT":
            name = error.diag.constraint_name or error.diag.column_name or state
            return self._attempt(operation, sql, f"got past row security: only {name} stopped it", privilege)
        by_policy = state == _POLICY and error.diag.source_function in _ROW_SECURITY
        if by_policy or (self.identity.unsure and state[:2] in ("22", "P0", "TP", "42", "28")):
            return Attempt(self.table.name, operation, self.identity)
        return Attempt(self.table.name, operation, self.identity, problem=f"ended in {state or type(error).__name__}")

    def state(self) -> Any:
        """Where the victim's rows are stored: any write to them moves or removes them."""
        places = "array_agg(tableoid::text || ctid ORDER BY tableoid, ctid)"
        sql = f"SELECT {places} FROM {self.table.name} WHERE {self.target.row.where}"
        found = self.connection.execute(sql.encode()).fetchone()
        return found[0] if found else None

    def changed(self, before: Any, how: str) -> Judge:
        """Says `how` when the victim's rows are no longer where they were."""

        def judge(_: Any) -> str:
            self.connection.execute("RESET SESSION AUTHORIZATION; RESET ROLE")
            return how if self.state() != before else ""

        return judge


def attack_table(
    connection: psycopg.Connection[Any],
    catalog: Catalog,
    target: Target,
    identities: tuple[Identity, ...],
    *,
    all_off: bool,
) -> Iterator[Attempt]:
    """Every attack of every identity. `all_off`: foreign keys can be disabled too (superusers only)."""
    for role in dict.fromkeys(identity.role for identity in identities):
        mine = tuple(identity for identity in identities if identity.role == role)
        for identity in mine:
            yield _truncate(_Attack(connection, catalog, target, identity))
        with savepoint(connection):
            for statement in _defences_down(target.table, role, all_off):
                connection.execute(statement.encode())
            for identity in mine:
                yield from _attacks(_Attack(connection, catalog, target, identity))


def _defences_down(table: Table, role: str, all_off: bool) -> Iterator[str]:
    yield from grants(table, role)
    yield f"ALTER TABLE {table.name} DISABLE TRIGGER {'ALL' if all_off else 'USER'}"


def grants(table: Table, role: str) -> Iterator[str]:
    """Statements that give a role every right on a table that row security bounds."""
    schema, to = _ident(table.schema), _ident(role)
    yield f"GRANT USAGE ON SCHEMA {schema} TO {to}"
    yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table.name} TO {to}"
    yield f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {to}"


def _ident(name: str) -> str:
    return name if name.startswith('"') else '"' + name.replace('"', '""') + '"'


def _attacks(attack: _Attack) -> Iterator[Attempt]:
    target, table = attack.target, attack.table.name
    seen = f"SELECT count(*) FROM {table} WHERE {target.row.where}"
    yield attack.attempt("SELECT", seen, lambda c: _found(c.fetchone()[0]), "SELECT")
    if others := _strangers(attack):
        yield attack.attempt("SELECT", others, lambda c: _found(c.fetchone()[0]), "SELECT")
    before = attack.state()
    yield attack.attempt("UPDATE", target.steal, attack.changed(before, "changed another tenant's row"), "UPDATE")
    yield attack.attempt("DELETE", target.delete, attack.changed(before, "deleted another tenant's row"), "DELETE")
    if target.insert:
        yield attack.attempt("INSERT", target.insert, lambda c: _wrote(c.rowcount), "INSERT")
    if target.move and attack.identity.lawful:
        yield attack.attempt("MOVE", target.move, lambda c: _moved(c.rowcount), "UPDATE")


def _strangers(attack: _Attack) -> str:
    """Rows that were there before the attack, of any tenant but the attacker's own."""
    column = attack.catalog.tenant_column(attack.table)
    if column is None:
        return ""
    name = _ident(column.name)
    condition = (
        f"{name} <> {literal(attack.target.attacker)}::{column.type}"
        if attack.identity.lawful
        else f"{name} IS NOT NULL"
    )
    return f"SELECT EXISTS (SELECT FROM {attack.table.name} WHERE {condition})"


def _found(count: int) -> str:
    return "read another tenant's row" if count else ""


def _wrote(count: int) -> str:
    return "wrote a row of another tenant" if count > 0 else ""


def _moved(count: int) -> str:
    return "gave its own row to another tenant" if count > 0 else ""


def _truncate(attack: _Attack) -> Attempt:
    """TRUNCATE knows no row security: only the privilege stands in the way, so none is granted here."""
    sql = f"TRUNCATE {attack.table.name}"
    with savepoint(attack.connection):
        try:
            attack.connection.execute(attack.identity.become.encode())
            attack.connection.execute(sql.encode())
        except psycopg.errors.InsufficientPrivilege:
            return Attempt(attack.table.name, "TRUNCATE", attack.identity)
        except psycopg.errors.FeatureNotSupported:
            return attack._attempt("TRUNCATE", sql, "may truncate the table: only a foreign key stopped it", "TRUNCATE")
        except psycopg.Error as error:
            return Attempt(attack.table.name, "TRUNCATE", attack.identity, problem=f"ended in {error.sqlstate}")
    return attack._attempt("TRUNCATE", sql, "emptied the table of every tenant", "TRUNCATE")


def statements(catalog: Catalog, table: Table, row: Row, a: Tenant, b: Tenant) -> tuple[str, str]:
    """How to make every row the attacker's (`steal`), and the attacker's the victim's (`move`)."""
    column = catalog.tenant_column(table)
    if column is not None and table.name != catalog.settings.tenant_table:
        change = f"UPDATE {table.name} SET {_ident(column.name)} = {{}}::{column.type}"
        return change.format(literal(a.id)), change.format(literal(b.id))
    keys = {name for c in table.constraints if c.kind in ("primary", "foreign", "unique") for name in c.columns}
    keys |= {name for index in table.indexes if index.unique for name in index.columns}
    plain = (c for c in table.columns if c.name not in keys and not c.generated and not c.identity)
    chosen = next((c for c in plain if row.values.get(c.name) is not None), None)
    if chosen is None:
        return f"DELETE FROM {table.name}", ""
    value = literal(str(row.values[chosen.name]))
    return f"UPDATE {table.name} SET {_ident(chosen.name)} = {value}::{chosen.type}", ""
