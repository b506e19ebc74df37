"""What the three parts have in common: two tenants with a row in every table, and how to look at the log."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.probes.binding import Binding, bind
from pytest_tenantproof.probes.rows import Row, Rows, Tenant
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.probes.turns import is_superuser, silence
from pytest_tenantproof.probes.values import ident, literal

__all__ = ["Flaw", "Scene", "Tried", "open_scene"]


@dataclass(frozen=True, slots=True)
class Flaw:
    """What should not have been possible."""

    object: str
    detail: str
    role: str = ""
    operation: str = ""


@dataclass(slots=True)
class Tried:
    """`shown` is how often the good thing was seen: where it never was, nothing is proven. `problems`: by object."""

    flaws: list[Flaw] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    shown: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """The session, the logs (partitions aside), the tenant that writes, and another user for further rows of it."""

    connection: psycopg.Connection[Any]
    catalog: Catalog
    logs: tuple[Table, ...]
    rows: Rows
    tenant: Tenant
    other_user: str
    binding: Binding
    superuser: bool

    @property
    def modes(self) -> tuple[str, ...]:
        """Values of session_replication_role that this session can set."""
        return ("origin", "replica") if self.superuser else ("origin",)

    def execute(self, sql: str) -> psycopg.Cursor[Any]:
        return self.connection.execute(sql.encode())

    def set_mode(self, mode: str) -> None:
        if mode != "origin":
            self.execute(f"SET LOCAL session_replication_role = {mode}")

    def become(self, role: str) -> None:
        if role:
            self.execute(f"SET LOCAL ROLE {ident(role)}")

    def mine(self, log: Table) -> str:
        """A condition for the tenant's events."""
        column = self.catalog.tenant_column(log)
        return f"{ident(column.name)} = {literal(self.tenant.id)}::{column.type}" if column else "true"

    def further(self, table: Table) -> Row | None:
        """One more row of the tenant's, as SQL."""
        if table.is_partition or table.name not in self.tenant.rows:
            return None
        return self.rows.again(table, replace(self.tenant, user=self.other_user))

    def touch(self, table: Table, where: str) -> str:
        """An UPDATE that changes nothing."""
        column = self.catalog.tenant_column(table) or table.columns[0]
        name = ident(column.name)
        return f"UPDATE {table.name} SET {name} = {name} WHERE {where}"


def open_scene(connection: psycopg.Connection[Any], catalog: Catalog) -> tuple[Scene, Mapping[str, str]]:
    """The scene, or why nothing would be seen on it. Works in the open transaction, and writes."""
    logs = tuple(log for log in catalog.audit_tables if not log.is_partition)
    blind = {log.name: "the session does not read it past row security" for log in logs if not _reads(connection, log)}
    rows, a, b = Rows(connection, catalog), Tenant("tenant A"), Tenant("tenant B")
    binding = Binding()
    if not blind:
        silence(connection, catalog)
        for tenant in (b, a):
            rows.fill(tenant)
        binding = bind(connection, catalog, a)
    return Scene(connection, catalog, logs, rows, a, b.user, binding, is_superuser(connection)), blind


def _reads(connection: psycopg.Connection[Any], log: Table) -> bool:
    with savepoint(connection):
        try:
            connection.execute(f"SET LOCAL row_security = off; SELECT FROM {log.name} LIMIT 1".encode())
        except psycopg.Error:
            return False
    return True
