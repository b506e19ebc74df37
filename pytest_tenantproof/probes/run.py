"""The whole attack: two tenants, every table, view and function, every identity. Nothing of it stays."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function, Table
from pytest_tenantproof.catalog.plpgsql import exit_of
from pytest_tenantproof.probes.attacks import Attempt, Breach, Target, attack_table, grants, statements
from pytest_tenantproof.probes.binding import Binding, bind
from pytest_tenantproof.probes.identities import Identity, attackers, owner
from pytest_tenantproof.probes.rows import Rows, Tenant, savepoint
from pytest_tenantproof.probes.turns import attacking, is_superuser, silence
from pytest_tenantproof.probes.values import Values, ident, literal

__all__ = ["Probed", "probe"]

_UNIQUE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)


@dataclass(slots=True)
class Probed:
    """What the attack showed. `problems`: tables that could not be attacked, or an attempt that says nothing.

    `permitted` are the (table, role) pairs at which the victim's own user reads the very row that others must
    not; `silenced` are triggers that would have reached out, and were disabled instead.
    """

    breaches: list[Breach] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    tables: list[str] = field(default_factory=list)
    permitted: set[tuple[str, str]] = field(default_factory=set)
    silenced: list[str] = field(default_factory=list)

    def add(self, attempt: Attempt) -> None:
        self.attempts += 1
        if attempt.breach is not None:
            self.breaches.append(attempt.breach)
        if attempt.problem:
            self.problems.setdefault(
                attempt.object, f"{attempt.operation} by {attempt.identity.name} {attempt.problem}"
            )


def probe(connection: psycopg.Connection[Any], catalog: Catalog) -> Probed:
    """Attacks the database that the session is connected to, as a role that may write its tables.

    Inside an open transaction it works in that one. Every write is rolled back. Raises psycopg.Error only when
    the session itself ends.
    """
    with attacking(connection):
        return _Probe(connection, catalog).run()


class _Probe:
    def __init__(self, connection: psycopg.Connection[Any], catalog: Catalog) -> None:
        self.connection, self.catalog = connection, catalog
        self.done = Probed()
        self.a, self.b = Tenant("tenant A"), Tenant("tenant B")
        self.binding = Binding()
        self.superuser = is_superuser(connection)

    def run(self) -> Probed:
        self.done.silenced = silence(self.connection, self.catalog)
        rows = Rows(self.connection, self.catalog)
        for tenant in (self.b, self.a):
            rows.fill(tenant)
        self.done.problems.update(rows.problems)
        self.binding = bind(self.connection, self.catalog, self.b)
        for expression in () if self.binding.proven else self.binding.unproven:
            self.done.problems[expression] = "no claim or setting makes it give the tenant or user, so nothing is shown"
        identities = attackers(self.catalog, self.binding, self.a, self.b, superuser=self.superuser)
        if not identities:
            self.done.problems["(identities)"] = "no client role exists: nobody to attack as"
        for target in self._targets(rows):
            self.done.tables.append(target.table.name)
            self._permit(target)
            for attempt in attack_table(self.connection, self.catalog, target, identities, all_off=self.superuser):
                self.done.add(attempt)
            self._prove_use(target.table)
        for attempt in (*self._views(identities), *self._calls(identities), *self._misalign()):
            self.done.add(attempt)
        return self.done

    def _targets(self, rows: Rows) -> Iterator[Target]:
        for table in (*self.catalog.isolated_tables, *rows.owned()):
            root = self.catalog.root_of(table)
            row = self.b.rows.get(root.name)
            if row is None or (table is not root and not self._holds(table, row.where)):
                continue
            # The victim's tenant with the attacker as user: how one joins another's tenant.
            joined = Tenant(self.b.name, self.b.id, self.a.user, dict(self.b.rows))
            registry = table.name == self.catalog.settings.tenant_table
            made = rows.again(root, joined) if table is root and not registry else None
            insert = made.insert.rpartition(" RETURNING ")[0] if made else ""
            steal, move = statements(self.catalog, table, row, self.a, self.b)
            setup = tuple(r.insert.rpartition(" RETURNING ")[0] for r in self.b.rows.values() if r.insert)
            delete = f"DELETE FROM {table.name}" + ("" if self.superuser else f" WHERE {row.where}")
            yield Target(table, row, insert, steal, move, delete, setup, self.a.id)

    def _holds(self, table: Table, where: str) -> bool:
        found = self.connection.execute(f"SELECT EXISTS (SELECT FROM {table.name} WHERE {where})".encode()).fetchone()
        return bool(found and found[0])

    def _permit(self, target: Target) -> None:
        """Whether the victim's own user sees the row: else a refusal to others says little."""
        for role in self.catalog.client_roles:
            with savepoint(self.connection):
                try:
                    if role in self.catalog.settings.anonymous_roles:
                        continue
                    for statement in grants(target.table, role):
                        self.connection.execute(statement.encode())
                    self.connection.execute(owner(self.binding, role, self.b).become.encode())
                    if self._holds(target.table, target.row.where):
                        self.done.permitted.add((target.table.name, role))
                except psycopg.Error:
                    continue

    def _prove_use(self, table: Table) -> None:
        if self._admits(table) and not any(name == table.name for name, _ in self.done.permitted):
            why = "its policies do not even let the tenant's own user read the row: a refusal to others says nothing"
            self.done.problems.setdefault(table.name, why)

    def _admits(self, table: Table) -> bool:
        """Whether a permissive policy lets a client role read anything at all; without one, row security refuses."""
        roles = {name for role in self.catalog.client_roles for name in self.catalog.graph.acts_as(role)}
        reads = (p for p in table.policies if p.permissive and p.command in ("ALL", "SELECT"))
        return any(roles & set(p.roles) and p.using.strip("() ") != "false" for p in reads)

    # --- views and functions -------------------------------------------------------------------------

    def _tokens(self) -> list[str]:
        """Values that occur in the victim's rows and nowhere else."""
        keys = {value for row in self.b.rows.values() for value in row.values.values() if value}
        mine = {value for row in self.a.rows.values() for value in row.values.values() if value}
        return sorted(key for key in keys - mine if _UNIQUE.fullmatch(key))

    def _views(self, identities: tuple[Identity, ...]) -> Iterator[Attempt]:
        tokens = ", ".join(literal(f"%{token}%") for token in self._tokens())
        for view in self.catalog.views:
            if not tokens or view.extension or view.schema not in self.catalog.settings.exposed:
                continue
            sql = f"SELECT count(*) FROM {view.name} v WHERE v::text LIKE ANY (ARRAY[{tokens}])"
            for identity in identities:
                if "SELECT" in self.catalog.privileges(view, identity.role):
                    yield self._look(view.name, identity, sql, "read another tenant's row through the view")

    def _calls(self, identities: tuple[Identity, ...]) -> Iterator[Attempt]:
        values = Values(self.catalog.snapshot)
        for function in self.catalog.own_functions:
            if not self._callable(function):
                continue
            given = [
                literal(self.b.id) + f"::{t}" if t in ("uuid", "text") else values.fresh(t) for t in function.arguments
            ]
            tokens = ", ".join(literal(f"%{t}%") for t in self._tokens() if not any(t in value for value in given))
            if not tokens:
                continue
            call = f"{function.name}({', '.join(given)})"
            sql = f"SELECT count(*) FROM {call} f WHERE f::text LIKE ANY (ARRAY[{tokens}])"
            for identity in identities:
                if self.catalog.callable_by(function, identity.role):
                    yield self._look(
                        function.signature, identity, sql, "was told of another tenant's row by the function"
                    )

    def _callable(self, function: Function) -> bool:
        plain = function.kind == "function" and function.returns not in ("trigger", "event_trigger", "void", "internal")
        exposed = function.schema in self.catalog.settings.exposed or function.security_definer
        return plain and exposed and not any(exit_of(each) for each in self.catalog.called_by(function))

    def _look(self, name: str, identity: Identity, sql: str, how: str) -> Attempt:
        with savepoint(self.connection):
            try:
                self.connection.execute(identity.become.encode())
                found = self.connection.execute(sql.encode()).fetchone()
            except psycopg.errors.QueryCanceled:
                return Attempt(name, "SELECT", identity, problem="timed out")
            except psycopg.Error:
                return Attempt(name, "SELECT", identity)
        if not found or not found[0]:
            return Attempt(name, "SELECT", identity)
        setup = "".join(f"{r.insert.rpartition(' RETURNING ')[0]};\n" for r in self.b.rows.values() if r.insert)
        script = f"BEGIN;\n{setup}{identity.become};\n{sql};\nROLLBACK;"
        return Attempt(name, "SELECT", identity, Breach(name, "SELECT", identity, f"{identity.name} {how}", script))

    # --- alignment -----------------------------------------------------------------------------------

    def _misalign(self) -> Iterator[Attempt]:
        """The session's own role points tenant A's row at tenant B's parent: structure alone must refuse it."""
        me = Identity("the database's owner", "")
        for link in self.catalog.links:
            child, parent = self.a.rows.get(link.table.name), self.b.rows.get(link.target.name)
            column = self.catalog.tenant_column(link.table)
            if child is None or parent is None or column is None:
                continue
            pairs = zip(link.constraint.columns, link.constraint.target_columns, strict=True)
            change = {
                a: parent.values.get(b) for a, b in pairs if a != column.name and parent.values.get(b) is not None
            }
            if not change:
                continue
            set_ = ", ".join(f"{ident(name)} = {literal(str(value))}" for name, value in change.items())
            sql = f"UPDATE {link.table.name} SET {set_} WHERE {child.where}"
            yield self._bend(link.table, link.constraint.name, sql, me)

    def _bend(self, table: Table, key: str, sql: str, me: Identity) -> Attempt:
        with savepoint(self.connection):
            try:
                self.connection.execute(f"ALTER TABLE {table.name} DISABLE TRIGGER USER".encode())
                changed = self.connection.execute(sql.encode()).rowcount
                self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            except psycopg.errors.IntegrityError:
                return Attempt(table.name, "ALIGN", me)
            except psycopg.Error as error:
                return Attempt(table.name, "ALIGN", me, problem=f"ended in {error.sqlstate}")
        if not changed:
            return Attempt(table.name, "ALIGN", me, problem="changed no row")
        setup = "".join(
            f"{r.insert.rpartition(' RETURNING ')[0]};\n" for t in (self.b, self.a) for r in t.rows.values() if r.insert
        )
        detail = f"{key} let a row point at another tenant's parent"
        return Attempt(
            table.name, "ALIGN", me, Breach(table.name, "ALIGN", me, detail, f"BEGIN;\n{setup}{sql};\nROLLBACK;")
        )
