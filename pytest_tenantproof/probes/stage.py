"""Everything an attack needs at hand: the session, the two tenants, who attacks."""

from dataclasses import dataclass
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.probes.binding import Binding
from pytest_tenantproof.probes.identities import Identity
from pytest_tenantproof.probes.rows import NOBODY, Row, Rows, Tenant

__all__ = ["Stage"]


@dataclass(frozen=True, slots=True)
class Stage:
    """`a` attacks, `b` is the victim; `superuser` says whether the session is one."""

    connection: psycopg.Connection[Any]
    catalog: Catalog
    rows: Rows
    a: Tenant
    b: Tenant
    binding: Binding
    identities: tuple[Identity, ...]
    superuser: bool

    @property
    def setup(self) -> str:
        """SQL that makes the victim's rows, for scripts."""
        return "".join(f"{made};\n" for made in self.made(self.b))

    @staticmethod
    def made(*tenants: Tenant) -> tuple[str, ...]:
        """The statements that made the tenants' rows."""
        rows = (row for tenant in tenants for row in tenant.rows.values() if row.insert)
        return tuple(_statement(row) for row in rows)

    @property
    def plain(self) -> frozenset[str]:
        """Names of one identity a role with tenant A's claims, and one with none: for what is too much for all."""
        found = {(i.role, bool(i.lawful)): i.name for i in reversed(self.identities) if not i.login}
        return frozenset(found.values())


def _statement(row: Row) -> str:
    insert = row.insert.rpartition(" RETURNING ")[0]
    return f"{row.as_user} {insert}; {NOBODY.rstrip(';')}" if row.as_user else insert
