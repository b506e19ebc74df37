"""Which tenants have rows in a table, and how many: counted, or of a large table, read once more for that, estimated.

An estimate only cuts the work into packs. That every tenant is found does not rest on it, nor that no row is lost:
the tenants are read off an index, and the rows that were copied are compared with all that are there.
"""

from dataclasses import dataclass
from typing import Any

import psycopg

from pytest_tenantproof.backup.plan import PlannedTable

__all__ = ["Counted", "count_all", "count_by_tenant"]

_LARGE = 64 << 20
_SAMPLE = 32 << 20
_TENANTS = 20_000
"""Tenants that are looked up one by one in an index at most; where there are more, reading all rows is as quick."""
_AS_QUICK = 1000
"""As many look-ups, each in one partition, take no longer than to count a MiB of rows."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A table's rows by tenant (None: no tenant); all tenants are there, and if `exact`, their rows are counted."""

    rows: dict[str | None, int]
    exact: bool = True


def count_by_tenant(connection: psycopg.Connection[Any], table: PlannedTable) -> Counted:
    """Raises psycopg.Error."""
    if table.walked and table.heap > _LARGE and (estimated := _estimated(connection, table)):
        return Counted(estimated, exact=False)
    if not table.tenant:
        query = f"SELECT NULL, count(*) FROM {table.source}"
    else:
        query = (
            f"SELECT g.tenant::text, g.rows FROM (SELECT {table.tenant} AS tenant, count(*) AS rows"
            f" FROM {table.source} GROUP BY 1) AS g"
        )
    found = connection.execute(query.encode()).fetchall()
    return Counted({tenant: rows for tenant, rows in found if rows})


def count_all(connection: psycopg.Connection[Any], table: PlannedTable) -> int:
    """Every row of a table. Raises psycopg.Error."""
    row = connection.execute(f"SELECT count(*) FROM {table.source}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def _estimated(connection: psycopg.Connection[Any], table: PlannedTable) -> dict[str | None, int]:
    """Empty when there are too many tenants to look them up."""
    most = min(_TENANTS, int(_AS_QUICK * table.heap / (1 << 20) / table.partitions))
    tenants = _walked(connection, table, most)
    if len(tenants) > most:
        return {}
    part = _SAMPLE / table.heap
    sampled = dict(
        connection.execute(
            f"SELECT {table.tenant}::text, count(*) FROM {table.source}"
            f" TABLESAMPLE SYSTEM ({100 * part}) GROUP BY {table.tenant}".encode()
        ).fetchall()
    )
    return {tenant: max(round(max(sampled.get(tenant, 0), 0.5) / part), 1) for tenant in tenants}


def _walked(connection: psycopg.Connection[Any], table: PlannedTable, most: int) -> list[str | None]:
    """Every tenant that has a row, each found behind the one before it; of more than `most`, only some."""
    next_ = f"SELECT {table.tenant} FROM {table.source} WHERE {table.tenant}"
    query = (
        f"WITH RECURSIVE walk(tenant) AS (({next_} IS NOT NULL ORDER BY 1 LIMIT 1)"
        f" UNION ALL SELECT ({next_} > walk.tenant ORDER BY 1 LIMIT 1) FROM walk WHERE walk.tenant IS NOT NULL)"
        f" SELECT tenant::text FROM walk WHERE tenant IS NOT NULL LIMIT {most + 1}"
    )
    found: list[str | None] = [tenant for (tenant,) in connection.execute(query.encode()).fetchall()]
    if connection.execute(f"{next_} IS NULL LIMIT 1".encode()).fetchone():
        found.append(None)
    return found
