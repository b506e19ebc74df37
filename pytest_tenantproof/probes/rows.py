"""Complete rows for two fresh tenants in every table that holds tenants' rows, whatever the schema.

A row is cloned from one that is there, inside the server, where there is one; else it is invented, and CHECK
constraints that refuse it say what to try next. Parents come first, along the foreign keys.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.model import Column, Constraint, Table
from pytest_tenantproof.config import DerivedTable
from pytest_tenantproof.probes.inserts import Inserts, returned
from pytest_tenantproof.probes.values import ident, literal

__all__ = ["NOBODY", "Row", "Rows", "Tenant", "key_of", "owned_tables"]

_RAISED = re.compile(r"PL/pgSQL function ([\w.\"]+\([^)]*\)) line")
NOBODY = "SELECT set_config('request.jwt.claims', '', true);"
_OWN = (Kind.TENANT, Kind.MEMBERSHIP, Kind.AUDIT, Kind.DERIVED, Kind.REGISTRY)


@dataclass(slots=True)
class Tenant:
    """One of the attack's tenants: its id (text), its user's id, and the rows it was given by table."""

    name: str
    id: str = ""
    user: str = field(default_factory=lambda: str(uuid.uuid4()))
    rows: dict[str, "Row"] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    """Ids of other tenants that the product's own triggers made its user a member of."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was made: its columns as text (NULL is None), and SQL that finds it and no other tenant's."""

    table: str
    values: Mapping[str, str | None]
    where: str
    insert: str
    as_user: str = ""
    """Settings (SQL) that the row was made under: its triggers ask who the user is."""


def _claims(tenant: Tenant) -> str:
    """SQL that makes the session the tenant's user's, as far as triggers and defaults ask."""
    token = json.dumps({"sub": tenant.user, "role": "authenticated"})
    return f"SELECT set_config('request.jwt.claims', {literal(token)}, true);"


def owned_tables(catalog: Catalog) -> tuple[Table, ...]:
    """Tables without a tenant column whose rows belong to one through a parent that the catalog knows."""
    found = []
    for table in catalog.of_kind(Kind.UNCLASSIFIED):
        keys = (c for c in table.constraints if c.kind == "foreign")
        if table.kind == "table" and any(catalog.kind_of(c.target) in _OWN for c in keys):
            found.append(table)
    return tuple(found)


class Rows:
    """Makes rows as the session's own role. `problems` says for which tables that failed, and why."""

    def __init__(self, connection: psycopg.Connection[Any], catalog: Catalog) -> None:
        self._connection = connection
        self._catalog = catalog
        self._inserts = Inserts(connection, catalog)
        self._derived: dict[str, DerivedTable] = {d.table: d for d in catalog.settings.derived_tables}
        self._shared: dict[str, Row] = {}
        self._identities = frozenset(_identities(catalog))
        self._making: list[str] = []
        self.problems: dict[str, str] = {}

    def fill(self, tenant: Tenant) -> None:
        """Gives the tenant a row in every table that it can have rows in."""
        registry = self._catalog.registry
        for name in self._catalog.settings.user_tables:
            if name in self._catalog.tables:
                self._row(self._catalog.tables[name], tenant)
        if registry is not None:
            self._row(registry, tenant)
        tenant.id = tenant.id or str(uuid.uuid4())
        for table in (
            *self._catalog.of_kind(Kind.MEMBERSHIP),
            *self._catalog.isolated_tables,
            *owned_tables(self._catalog),
        ):
            if not table.is_partition:
                self._row(table, tenant)
        tenant.others = tuple(self._others(tenant))

    def _others(self, tenant: Tenant) -> Iterator[str]:
        for table in self._catalog.of_kind(Kind.MEMBERSHIP):
            column, user = self._catalog.tenant_column(table), self._catalog.user_column(table)
            if column is None or user is None or table.is_partition:
                continue
            mine = f"{ident(user.name)}::text = {literal(tenant.user)} AND {ident(column.name)}::text"
            query = f"SELECT DISTINCT {ident(column.name)}::text FROM {table.name} WHERE {mine} <> {literal(tenant.id)}"
            yield from (row[0] for row in self._connection.execute(query.encode()))

    def joint(self, tenant: Tenant) -> tuple[Tenant, ...]:
        """One new user's membership in that tenant and in a third, which is made; () where the product has or allows
        no such thing."""
        tables = [t for t in self._catalog.of_kind(Kind.MEMBERSHIP) if not t.is_partition]
        if not tables:
            return ()
        known, third = dict(self.problems), Tenant("tenant C")
        self.fill(third)
        users = {n: row for n, row in third.rows.items() if n in self._catalog.settings.user_tables}
        member = Tenant(tenant.name, tenant.id, third.user, tenant.rows | users)
        joined = [self._plan(table, member, insert=True) for table in tables]
        self.problems = known
        return (member, third) if third.rows and all(isinstance(row, Row) for row in joined) else ()

    def again(self, table: Table, tenant: Tenant) -> Row | None:
        """One more row for the tenant beside the one it has: as SQL only, not inserted."""
        made = self._plan(table, tenant)
        return None if isinstance(made, str) else made

    def _row(self, table: Table, tenant: Tenant) -> Row | None:
        own = self._catalog.kind(table) in (*_OWN, Kind.USER, Kind.UNCLASSIFIED)
        held = tenant.rows if own else self._shared
        if table.name in held or table.name in self.problems or table.name in self._making:
            return held.get(table.name)
        self._making.append(table.name)
        try:
            found = self._plan(table, tenant, insert=True)
        finally:
            self._making.pop()
        if isinstance(found, str):
            found = self._there(table, tenant) or found
        if isinstance(found, str):
            self.problems[table.name] = found
            return None
        held[table.name] = found
        if table.name == self._catalog.settings.tenant_table:
            column = self._catalog.tenant_column(table)
            tenant.id = (found.values.get(column.name) if column else None) or tenant.id
        return found

    def _there(self, table: Table, tenant: Tenant) -> Row | None:
        """A row of the tenant's that a trigger wrote, e.g. in an audit log that takes no row by hand."""
        column = self._catalog.tenant_column(table)
        if column is None or table.name == self._catalog.settings.tenant_table:
            return None
        where = f"{ident(column.name)} = {literal(tenant.id)}::{column.type}"
        try:
            with self._connection.transaction():
                query = f"SELECT {returned(table)} FROM {table.name} WHERE {where} LIMIT 1"
                row = self._connection.execute(query.encode()).fetchone()
        except psycopg.Error:
            return None
        return Row(table.name, row[0], where, "") if row else None

    def _plan(self, table: Table, tenant: Tenant, *, insert: bool = False) -> "Row | str":
        """The row, inserted or tried and undone; or why none could be made."""
        try:
            forced = self._forced(table, tenant)
        except LookupError as error:
            return str(error)
        as_nobody = self._best(table, tenant, forced, "", insert=insert)
        if isinstance(as_nobody, Row):
            return as_nobody
        as_user = self._best(table, tenant, forced, _claims(tenant), insert=insert)
        return as_user if isinstance(as_user, Row) else as_nobody

    def _best(
        self, table: Table, tenant: Tenant, forced: dict[str, str], settings: str, *, insert: bool
    ) -> "Row | str":
        """The first row that the table takes under the settings, or why it took not even the last."""
        said = "no attempt was made"
        for statement in self._inserts.statements(table, tenant.id, forced):
            found = self._attempt(table, tenant, statement, settings, insert=insert)
            if isinstance(found, Row):
                return replace(found, as_user=settings)
            said = found
        return said

    def _attempt(self, table: Table, tenant: Tenant, statement: str, settings: str, *, insert: bool) -> "Row | str":
        self._connection.execute(f"SAVEPOINT tp_row;{settings}".encode())
        keep = False
        try:
            returned = self._connection.execute(statement.encode()).fetchone()
            self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            if returned is None:
                return "a trigger or rule swallowed the row"
            self._inserts.refused = None
            row = self._made(table, tenant, returned[0], statement)
            keep = insert and isinstance(row, Row)
        except psycopg.Error as error:
            self._inserts.refused = error
            return _why(error)
        else:
            return row
        finally:
            undo = (NOBODY if settings else "") if keep else "ROLLBACK TO SAVEPOINT tp_row;"
            self._connection.execute(f"{undo} RELEASE SAVEPOINT tp_row".encode())

    def _made(self, table: Table, tenant: Tenant, values: Mapping[str, str | None], statement: str) -> "Row | str":
        where = self._where(table, tenant, values)
        found = self._connection.execute(f"SELECT count(*) FROM {table.name} WHERE {where}".encode()).fetchone()
        if not found or found[0] < 1:
            return "its tenant could not be set"
        return Row(table.name, values, where, statement)

    def _where(self, table: Table, tenant: Tenant, values: Mapping[str, str | None]) -> str:
        """What finds the tenant's rows: the tenant column, the derived expression, or the row's own keys."""
        derived = self._derived.get(table.name)
        if derived is not None:
            return f"({derived.tenant})::text = {literal(derived.prefix + tenant.id)}"
        column = self._catalog.tenant_column(table)
        if column is not None and values.get(column.name) is not None:
            return f"{ident(column.name)} = {literal(str(values[column.name]))}::{column.type}"
        keys = key_of(table)
        pairs = [(table.column(k), values.get(k)) for k in keys]
        return (
            " AND ".join(f"{ident(c.name)} = {literal(v)}::{c.type}" for c, v in pairs if c and v is not None)
            or "false"
        )

    # --- what a row must hold ------------------------------------------------------------------------

    def _forced(self, table: Table, tenant: Tenant) -> dict[str, str]:
        """SQL by column: the tenant, the user, what foreign keys and declared references ask for."""
        forced: dict[str, str] = {}
        registry = table.name == self._catalog.settings.tenant_table
        column = None if registry else self._catalog.tenant_column(table)
        if column is not None:
            forced[column.name] = f"{literal(tenant.id)}::{column.type}"
        user = self._catalog.user_column(table)
        if user is not None and self._catalog.kind(table) is Kind.MEMBERSHIP:
            forced[user.name] = f"{literal(tenant.user)}::{user.type}"
        if self._catalog.kind(table) is Kind.USER or table.name in self._identities:
            forced |= {c.name: f"{literal(tenant.user)}::{c.type}" for c in self._user_keys(table)}
        for key in sorted((c for c in table.constraints if c.kind == "foreign"), key=lambda c: len(c.columns)):
            forced |= self._parents(table, key, tenant, forced)
        return forced | self._references(table, tenant)

    @staticmethod
    def _user_keys(table: Table) -> Iterator[Column]:
        for name in key_of(table):
            column = table.column(name)
            if column is not None and column.type in ("uuid", "text", "character varying"):
                yield column

    def _parents(self, table: Table, key: Constraint, tenant: Tenant, forced: dict[str, str]) -> dict[str, str]:
        target = self._catalog.tables.get(key.target)
        columns = [c for name in key.columns if (c := table.column(name))]
        optional = any(not c.not_null for c in columns if c.name not in forced)
        if target is None:
            return {}
        if target.name == table.name or target.name in self._making:
            if optional:
                return {}
            if target.name != table.name:
                raise LookupError(f"its key {key.name} leads in a circle")
            return {}
        row = self._row(target, tenant)
        if row is None:
            if optional:
                return {}
            raise LookupError(
                f"it needs a row of {target.name}: {self.problems.get(target.name, 'none could be made')}"
            )
        pairs = zip(key.columns, key.target_columns, strict=True)
        values = {a: (table.column(a), row.values.get(b)) for a, b in pairs}
        return {a: f"{literal(v)}::{c.type}" for a, (c, v) in values.items() if c and v is not None and a not in forced}

    def _references(self, table: Table, tenant: Tenant) -> dict[str, str]:
        found: dict[str, str] = {}
        for reference in self._catalog.settings.references:
            owner, _, name = reference.column.rpartition(".")
            column = table.column(name)
            if owner != table.name or column is None:
                continue
            value, target = next(iter(reference.to.items()))
            row = self._row(self._catalog.tables[target], tenant) if target in self._catalog.tables else None
            if row is not None:
                key = key_of(self._catalog.tables[target])
                found[name] = f"{literal(str(row.values.get(key[-1] if key else 'id')))}::{column.type}"
                if reference.discriminator:
                    found[reference.discriminator] = literal(value)
        return found


def _identities(catalog: Catalog) -> Iterator[str]:
    """Tables whose key a table of users has for its own: the same user by the same id."""
    for table in catalog.of_kind(Kind.USER):
        keys = (c for c in table.constraints if c.kind == "foreign" and c.columns == key_of(table))
        yield from (key.target for key in keys)


def key_of(table: Table) -> tuple[str, ...]:
    """The columns of the primary key, or else of an unconditional unique index."""
    primary = next((c.columns for c in table.constraints if c.kind == "primary"), ())
    return primary or next((i.columns for i in table.indexes if i.unique and not i.predicate and all(i.columns)), ())


def _why(error: psycopg.Error) -> str:
    """SQLSTATE and object of a refusal, or the function that raised it; never the message, which quotes values."""
    diag = error.diag
    raised = _RAISED.match(diag.context or "") if diag.sqlstate == "P0001" else None
    named = (diag.constraint_name, diag.column_name, diag.datatype_name, raised and raised[1])
    names = [name for name in named if name]
    return f"{diag.sqlstate or type(error).__name__}" + (f" at {', '.join(names)}" if names else "")
