"""Rows already stored that a constraint forbids: loaded with triggers off, a 'valid' constraint never saw them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Constraint, Table

__all__ = ["Stored", "scan", "unknown"]

_TIMEOUT = "20s"


@dataclass(frozen=True, slots=True)
class Stored:
    """A constraint of a table, or that its tenant column is not null: whether a row breaks it, or why none knows."""

    table: str
    constraint: str
    broken: bool = False
    unknown: str = ""


def scan(connection: psycopg.Connection[Any], catalog: Catalog) -> tuple[Stored, ...]:
    """Looks for one row that breaks each foreign key and check of the tables that hold tenants' rows, and for one
    that belongs to no tenant.

    Reads only, and stops at the first such row. A session bound by row security learns nothing: it says so.
    Raises psycopg.Error only when the session ends.
    """
    roots = (t for t in catalog.isolated_tables if not t.is_partition)
    found = (each for table in roots for each in (*_tenantless(catalog, table), *_constraints(table)))
    return tuple(_look(connection, *each) for each in (*found, *_public(catalog)))


def _public(catalog: Catalog) -> Iterator[tuple[str, str, sql.Composable]]:
    """Containers of tenants' files (Supabase's buckets) that are marked public are served to everybody, past any
    policy of the table that lists the files."""
    for derived in catalog.settings.derived_tables:
        table = catalog.tables.get(derived.table)
        for key in table.constraints if table else ():
            target = catalog.tables.get(key.target)
            flag = target.column("public") if target and key.kind == "foreign" and len(key.columns) == 1 else None
            if target and flag and flag.type == "boolean":
                yield (
                    target.name,
                    f"that nothing with files of tenants ({derived.table}) is public",
                    sql.SQL("SELECT FROM {} p WHERE p.public AND EXISTS (SELECT FROM {} c WHERE c.{} = p.{})").format(
                        sql.SQL(target.name),
                        sql.SQL(derived.table),
                        sql.Identifier(key.columns[0]),
                        sql.Identifier(key.target_columns[0]),
                    ),
                )


def _tenantless(catalog: Catalog, table: Table) -> Iterator[tuple[str, str, sql.Composable]]:
    """A column may read as NOT NULL and hold NULLs: the constraint may never have been validated (PostgreSQL 18)."""
    if column := catalog.tenant_column(table):
        query = sql.SQL("SELECT FROM {} WHERE {} IS NULL").format(sql.SQL(table.name), sql.Identifier(column.name))
        yield table.name, f"that {column.name} is not null", query


def _constraints(table: Table) -> Iterator[tuple[str, str, sql.Composable]]:
    for constraint in table.constraints:
        if query := _broken(table, constraint):
            yield table.name, constraint.name, query


def _look(connection: psycopg.Connection[Any], table: str, constraint: str, query: sql.Composable) -> Stored:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL statement_timeout = '{_TIMEOUT}'; SET LOCAL row_security = off")
            row = connection.execute(sql.SQL("SELECT EXISTS ({})").format(query)).fetchone()
    except psycopg.Error as error:
        if connection.closed:
            raise
        return Stored(table, constraint, unknown=f"SQLSTATE {error.sqlstate}")
    return Stored(table, constraint, broken=bool(row and row[0]))


def _broken(table: Table, constraint: Constraint) -> sql.Composable | None:
    """A query for rows that break the constraint; None for kinds that an index enforces."""
    name = sql.SQL(table.name)  # format('%I.%I') of the catalog: quoted already
    if constraint.kind == "check":
        condition = constraint.definition.removesuffix(" NOT VALID").removesuffix(" NO INHERIT").removeprefix("CHECK ")
        return sql.SQL("SELECT FROM {} WHERE NOT ({})").format(name, sql.SQL(condition))
    if constraint.kind != "foreign" or constraint.match == "partial":
        return None
    pairs = list(zip(constraint.columns, constraint.target_columns, strict=True))
    same = sql.SQL(" AND ").join(sql.SQL("p.{} = c.{}").format(sql.Identifier(b), sql.Identifier(a)) for a, b in pairs)
    glue = sql.SQL(" OR " if constraint.match == "full" else " AND ")
    held = glue.join(sql.SQL("c.{} IS NOT NULL").format(sql.Identifier(a)) for a, _ in pairs)
    return sql.SQL("SELECT FROM {} c WHERE ({}) AND NOT EXISTS (SELECT FROM {} p WHERE {})").format(
        name, held, sql.SQL(constraint.target), same
    )


def unknown(found: tuple[Stored, ...]) -> Iterator[str]:
    """What was not established, for people."""
    return (f"{s.table}, {s.constraint}: {s.unknown}" for s in found if s.unknown)
