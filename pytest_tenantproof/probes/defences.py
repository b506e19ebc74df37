"""Takes down, inside the transaction, what stands beside row security: missing privileges, triggers, foreign keys.

Several workers attack one database at once, each in its own transaction, and all of them hold rows in every table.
ALTER TABLE would wait for all others; a superuser therefore marks triggers as disabled in pg_trigger itself, which
locks no table. Like everything else it is rolled back.
"""

import re
from collections.abc import Iterator
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.probes.values import ident, literal

__all__ = ["grants", "no_row_security", "no_triggers", "take_down"]

_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_SEQUENCE = re.compile(r"nextval\('((?:[^']|'')+)'")
# The relation's own row is touched as well: that is what makes the server read its triggers anew, now and at the end.
_MARK = """
WITH RECURSIVE tree AS (
    SELECT {oid}::regclass::oid AS relid
    UNION SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.relid
), marked AS (
    UPDATE pg_catalog.pg_trigger t SET tgenabled = 'D' FROM tree WHERE t.tgrelid = tree.relid AND {which}
)
UPDATE pg_catalog.pg_class c SET relname = c.relname FROM tree WHERE c.oid = tree.relid
"""


def take_down(
    connection: psycopg.Connection[Any], catalog: Catalog, table: Table, role: str, *, superuser: bool
) -> None:
    """Grants the role every right on the table, and disables its triggers; foreign keys too, for a superuser."""
    for statement in grants(catalog, table, role):
        connection.execute(statement.encode())
    no_triggers(connection, catalog, table, superuser=superuser, keys=True)


def grants(catalog: Catalog, table: Table, role: str) -> Iterator[str]:
    """Statements that give a role every right on a table that row security bounds, where it lacks one.

    Always in the order schema, table, sequences, so that two workers never wait for each other.
    """
    to = ident(role)
    if not catalog.usable(table.schema, role):
        yield f"GRANT USAGE ON SCHEMA {ident(table.schema)} TO {to}"
    held = catalog.graph.granted(table.grants, role) if catalog.usable(table.schema, role) else frozenset()
    if lacking := [right for right in _RIGHTS if right not in held]:
        yield f"GRANT {', '.join(lacking)} ON {table.name} TO {to}"
    for name in sorted(_sequences(catalog, table)):
        yield f"GRANT USAGE ON SEQUENCE {name} TO {to}"


def _sequences(catalog: Catalog, table: Table) -> set[str]:
    named = {name.replace("''", "'") for column in table.columns for name in _SEQUENCE.findall(column.default)}
    return named & catalog.tables.keys()


def no_triggers(
    connection: psycopg.Connection[Any], catalog: Catalog, table: Table, *, superuser: bool, keys: bool
) -> None:
    """Disables the triggers of a table and its partitions; with `keys` (superusers) those behind foreign keys too."""
    if superuser:
        which = "true" if keys else "NOT t.tgisinternal"
        connection.execute(_MARK.format(oid=literal(table.name), which=which).encode())
    elif any(t.triggers for t in (table, *catalog.children_of(table))):
        connection.execute(f"ALTER TABLE {table.name} DISABLE TRIGGER USER".encode())


def no_row_security(connection: psycopg.Connection[Any], table: Table) -> None:
    """Switches a table's row security off, for a superuser's session: ALTER TABLE would wait for whoever reads it."""
    switches = "relrowsecurity = false, relforcerowsecurity = false"
    relation = f"{literal(table.name)}::regclass"
    connection.execute(f"UPDATE pg_catalog.pg_class SET {switches} WHERE oid = {relation}".encode())
