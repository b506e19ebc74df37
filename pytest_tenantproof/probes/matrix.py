"""The attack in parts that depend on nothing but the catalog, so that every worker numbers them alike."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog, Link
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.probes.attacks import Attempt, Breach, Target, attack_table, statements
from pytest_tenantproof.probes.binding import bind
from pytest_tenantproof.probes.calls import attack_function, attack_view, attackable
from pytest_tenantproof.probes.defences import grants, no_triggers
from pytest_tenantproof.probes.identities import Identity, attackers, owner
from pytest_tenantproof.probes.probed import Probed
from pytest_tenantproof.probes.rows import Row, Rows, Tenant, owned_tables
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.probes.stage import Stage
from pytest_tenantproof.probes.turns import silence
from pytest_tenantproof.probes.values import Values, ident, literal

__all__ = ["Matrix", "Part", "parts"]

_GUESSES = 20


@dataclass(frozen=True, slots=True)
class Part:
    """A table with its partitions, a view, a function, or a foreign key to be bent."""

    kind: str
    name: str
    constraint: str = ""


def parts(catalog: Catalog) -> tuple[Part, ...]:
    """Everything that is attacked, in a fixed order."""
    tables = (*catalog.isolated_tables, *owned_tables(catalog))
    exposed = catalog.settings.exposed
    return (
        *(Part("table", name) for name in dict.fromkeys(catalog.root_of(table).name for table in tables)),
        *(Part("view", view.name) for view in catalog.views if view.schema in exposed and not view.extension),
        *(Part("function", function.signature) for function in catalog.own_functions),
        *(Part("link", link.table.name, link.constraint.name) for link in catalog.links),
    )


class Matrix:
    """Two tenants made in the session's open transaction, and the attacks on one of them."""

    def __init__(self, connection: psycopg.Connection[Any], catalog: Catalog, *, superuser: bool) -> None:
        self.prepared = Probed(silenced=silence(connection, catalog))
        rows, a, b = Rows(connection, catalog), Tenant("tenant A"), Tenant("tenant B")
        for tenant in (b, a):
            rows.fill(tenant)
        a.others = tuple(tenant for tenant in a.others if tenant != b.id)
        self.prepared.problems.update(rows.problems)
        binding = bind(connection, catalog, b)
        for expression in () if binding.proven else binding.unproven:
            why = "no claim or setting makes it give the tenant or user, so nothing is shown"
            self.prepared.problems[expression] = why
        joint = rows.joint(a)
        identities = attackers(catalog, binding, a, b, superuser=superuser, joint=joint)
        if not identities:
            self.prepared.problems["(identities)"] = "no client role exists: nobody to attack as"
        self.stage = Stage(connection, catalog, rows, a, b, binding, identities, superuser)

    def attack(self, part: Part) -> Probed:
        """Everything that is tried on one part."""
        done, catalog = Probed(), self.stage.catalog
        if part.kind == "table":
            for target in self._targets(catalog.tables[part.name]):
                self._attack_table(done, target)
        elif part.kind == "view":
            _collect(done, attack_view(self.stage, catalog.tables[part.name]))
        elif part.kind == "function":
            function = catalog.functions[part.name]
            _collect(done, attack_function(self.stage, function) if attackable(self.stage, function) else ())
        else:
            links = catalog.links_of(catalog.tables[part.name])
            link = next(link for link in links if link.constraint.name == part.constraint)
            _collect(done, self._misalign(link))
        return done

    # --- tables --------------------------------------------------------------------------------------

    def _attack_table(self, done: Probed, target: Target) -> None:
        stage = self.stage
        done.tables.append(target.table.name)
        seen = self._permitted(done, target)
        if self._admits(target.table) and not seen:
            target, seen = self._revealed(done, target)
        done.permitted |= seen
        everybody = stage.identities
        for attempt in attack_table(stage.connection, stage.catalog, target, everybody, superuser=stage.superuser):
            done.add(attempt)
        if self._admits(target.table) and not seen:
            why = "its policies do not even let the tenant's own user read the row: a refusal to others says nothing"
            done.problems.setdefault(target.table.name, why)

    def _targets(self, root: Table) -> Iterator[Target]:
        """The table and its partitions that hold the victim's row."""
        stage, catalog = self.stage, self.stage.catalog
        row = stage.b.rows.get(root.name)
        tables = (*catalog.isolated_tables, *owned_tables(catalog))
        for table in (t for t in tables if row and catalog.root_of(t) is root):
            if row is None or (table is not root and not self._holds(table, row.where)):
                continue
            # The victim's tenant with the attacker as user: how one joins another's tenant.
            joined = Tenant(stage.b.name, stage.b.id, stage.a.user, dict(stage.b.rows))
            registry = table.name == catalog.settings.tenant_table
            made = stage.rows.again(root, joined) if table is root and not registry else None
            insert = made.insert.rpartition(" RETURNING ")[0] if made else ""
            steal, move = statements(catalog, table, row, stage.a, stage.b)
            delete = f"DELETE FROM {table.name}" + ("" if stage.superuser else f" WHERE {row.where}")
            copied = _copied(table, made) if made else {}
            yield Target(table, row, insert, steal, move, delete, stage.made(stage.b), copied)

    def _holds(self, table: Table, where: str) -> bool:
        query = f"SELECT EXISTS (SELECT FROM {table.name} WHERE {where})"
        found = self.stage.connection.execute(query.encode()).fetchone()
        return bool(found and found[0])

    @property
    def _clients(self) -> tuple[str, ...]:
        anonymous = self.stage.catalog.settings.anonymous_roles
        return tuple(role for role in self.stage.catalog.client_roles if role not in anonymous)

    def _permitted(self, done: Probed, target: Target) -> set[tuple[str, str]]:
        """As which roles the victim's own user sees the row: if as none, a refusal to others says little."""
        stage, found = self.stage, set()
        for role in self._clients:
            with savepoint(stage.connection):
                try:
                    for statement in grants(stage.catalog, target.table, role):
                        stage.connection.execute(statement.encode())
                    stage.connection.execute(owner(stage.binding, role, stage.b).become.encode())
                    if self._holds(target.table, target.row.where):
                        found.add((target.table.name, role))
                except psycopg.errors.LockNotAvailable as error:
                    done.problems[target.table.name] = f"its own user's look ended in {error.sqlstate}"
                except psycopg.Error:
                    continue
        return found

    def _revealed(self, done: Probed, target: Target) -> tuple[Target, set[tuple[str, str]]]:
        """The target with a row changed to what its policies ask for beside the tenant, where one column decides."""
        connection = self.stage.connection
        for change in self._changes(target):
            connection.execute("SAVEPOINT tp_reveal")
            with contextlib.suppress(psycopg.Error):
                connection.execute(change.encode())
                if seen := self._permitted(done, target):
                    return replace(target, setup=(*target.setup, change)), seen
            connection.execute("ROLLBACK TO SAVEPOINT tp_reveal")
        return target, set()

    def _changes(self, target: Target) -> Iterator[str]:
        """One column at a time, values that the policies' text suggests."""
        table, values = target.table, Values(self.stage.catalog.snapshot)
        text = " ".join(policy.using for policy in table.policies)
        own = self.stage.catalog.tenant_column(table)
        for column in (c for c in table.columns if c is not own and not c.generated and not c.identity):
            if re.search(rf"\b{re.escape(column.name)}\b", text):
                for value in islice(values.solutions(text, column.type), _GUESSES):
                    yield f"UPDATE {table.name} SET {ident(column.name)} = {value} WHERE {target.row.where}"

    def _admits(self, table: Table) -> bool:
        """Whether a permissive policy lets a client role read anything at all; without one, row security refuses."""
        catalog = self.stage.catalog
        roles = {name for role in catalog.client_roles for name in catalog.graph.acts_as(role)}
        reads = (p for p in table.policies if p.permissive and p.command in ("ALL", "SELECT"))
        return any(roles & set(p.roles) and p.using.strip("() ") != "false" for p in reads)

    # --- alignment -----------------------------------------------------------------------------------

    def _misalign(self, link: Link) -> Iterator[Attempt]:
        """The session's own role points tenant A's row at tenant B's parent: structure alone must refuse it."""
        stage = self.stage
        child, parent = stage.a.rows.get(link.table.name), stage.b.rows.get(link.target.name)
        column = stage.catalog.tenant_column(link.table)
        if child is None or parent is None or column is None:
            return
        pairs = zip(link.constraint.columns, link.constraint.target_columns, strict=True)
        change = {a: value for a, b in pairs if a != column.name and (value := parent.values.get(b)) is not None}
        if change:
            set_ = ", ".join(f"{ident(name)} = {literal(str(value))}" for name, value in change.items())
            sql = f"UPDATE {link.table.name} SET {set_} WHERE {child.where}"
            yield self._bend(link, sql, Identity("the database's owner", ""))

    def _bend(self, link: Link, sql: str, me: Identity) -> Attempt:
        stage, name = self.stage, link.table.name
        with savepoint(stage.connection):
            try:
                no_triggers(stage.connection, stage.catalog, link.table, superuser=stage.superuser, keys=False)
                changed = stage.connection.execute(sql.encode()).rowcount
                stage.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            except psycopg.errors.IntegrityError:
                return Attempt(name, "ALIGN", me)
            except psycopg.Error as error:
                return Attempt(name, "ALIGN", me, problem=f"ended in {error.sqlstate}")
        if not changed:
            return Attempt(name, "ALIGN", me, problem="changed no row")
        setup = "".join(f"{statement};\n" for statement in stage.made(stage.b, stage.a))
        detail = f"{link.constraint.name} let a row point at another tenant's parent"
        script = f"BEGIN;\n{setup}{sql};\nROLLBACK;"
        return Attempt(name, "ALIGN", me, Breach(name, "ALIGN", me, detail, script))


def _collect(done: Probed, attempts: Iterator[Attempt] | tuple[()]) -> None:
    for attempt in attempts:
        done.add(attempt)


def _copied(table: Table, row: Row) -> dict[str, str | None]:
    """What COPY can write of a row."""
    return {c.name: row.values.get(c.name) for c in table.columns if not c.generated}
