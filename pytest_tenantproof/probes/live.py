"""The attacks that only read, on tenants that are there: what a live target allows, through a session of its own."""

from collections.abc import Iterator
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.probes.attacks import Attempt, Breach
from pytest_tenantproof.probes.binding import bind
from pytest_tenantproof.probes.identities import Identity, attackers, owner
from pytest_tenantproof.probes.probed import Probed
from pytest_tenantproof.probes.rows import Tenant
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.probes.values import ident, literal
from pytest_tenantproof.target import rolled_back

__all__ = ["probe_live"]

_TIMEOUT = "10s"


def probe_live(connection: psycopg.Connection[Any], catalog: Catalog) -> Probed:
    """Every identity asks for a row of another, existing tenant. No id and no row leaves this function.

    The session has to read the registry (and memberships) and to become the client roles; what it cannot is in
    `problems`. Raises psycopg.Error only when the session ends.
    """
    done = Probed()
    with rolled_back(connection):
        connection.execute(f"SET LOCAL statement_timeout = '{_TIMEOUT}'; SET LOCAL search_path = ''")
        pair = _pair(connection, catalog)
        if pair is None:
            done.problems["(tenants)"] = "the probe session reads no two tenants from the registry"
            return done
        a, b = pair
        binding = bind(connection, catalog, b)
        if not binding.proven:
            done.problems["(claims)"] = "no claim or setting makes a trusted expression give an existing tenant"
        lawful = [owner(binding, role, b) for role in catalog.client_roles]
        for table in catalog.isolated_tables:
            if catalog.tenant_column(table) is None:
                continue
            done.tables.append(table.name)
            done.permitted |= {
                (table.name, who.role) for who in lawful if _sees(connection, catalog, table, who, b) is True
            }
            for identity in attackers(catalog, binding, a, b, superuser=False):
                done.add(_attempt(connection, catalog, table, identity, b))
    if not done.permitted:
        done.problems["(permitted)"] = "no tenant's own user reads a row of its own: refusals to others say nothing"
    return done


def _pair(connection: psycopg.Connection[Any], catalog: Catalog) -> tuple[Tenant, Tenant] | None:
    """Two tenants, with a user of each where memberships say one; the victim has rows wherever that can be seen."""
    registry = catalog.registry
    column = catalog.tenant_column(registry) if registry else None
    if registry is None or column is None:
        return None
    with savepoint(connection):
        try:
            query = f"SELECT {ident(column.name)}::text FROM {registry.name} ORDER BY 1 LIMIT 2"
            ids = [row[0] for row in connection.execute(query.encode())]
            found = [
                Tenant(f"tenant {n}", i, next(_users(connection, catalog, i), ""))
                for n, i in zip("AB", ids, strict=False)
            ]
        except psycopg.Error:
            return None
    return (found[0], found[1]) if len(found) == 2 else None


def _users(connection: psycopg.Connection[Any], catalog: Catalog, tenant: str) -> Iterator[str]:
    for name in catalog.settings.membership_tables:
        table = catalog.tables.get(name)
        column = catalog.tenant_column(table) if table else None
        user = catalog.user_column(table) if table else None
        if column and user:
            where = f"{ident(column.name)} = {literal(tenant)}::{column.type}"
            query = f"SELECT {ident(user.name)}::text FROM {name} WHERE {where} LIMIT 1"
            yield from (row[0] for row in connection.execute(query.encode()).fetchall())


def _attempt(
    connection: psycopg.Connection[Any], catalog: Catalog, table: Table, identity: Identity, victim: Tenant
) -> Attempt:
    seen = _sees(connection, catalog, table, identity, victim)
    if seen is True:
        detail = f"{identity.name} reads rows of another tenant, here and now"
        return Attempt(table.name, "SELECT", identity, Breach(table.name, "SELECT", identity, detail, ""))
    refused = seen is False or seen == "42501" or (identity.unsure and str(seen)[:2] in ("22", "P0", "TP"))
    return Attempt(table.name, "SELECT", identity, problem="" if refused else f"ended in {seen}")


def _sees(
    connection: psycopg.Connection[Any], catalog: Catalog, table: Table, identity: Identity, victim: Tenant
) -> bool | str:
    """Whether the identity sees a row of the victim; or the SQLSTATE that it ended in."""
    column = catalog.tenant_column(table)
    if column is None:
        return False
    where = f"{ident(column.name)} = {literal(victim.id)}::{column.type}"
    with savepoint(connection):
        try:
            connection.execute(identity.become.encode())
        except psycopg.Error as error:
            return f"{error.sqlstate} on becoming the role"
        try:
            row = connection.execute(f"SELECT EXISTS (SELECT FROM {table.name} WHERE {where})".encode()).fetchone()
        except psycopg.Error as error:
            return error.sqlstate or "no SQLSTATE"
    return bool(row and row[0])
