"""The transaction of an attack: bounded in time, undone whatever happens, and in its turn on each database."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.catalog.plpgsql import exit_of
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.probes.values import ident
from pytest_tenantproof.target import rolled_back

__all__ = ["attacking", "is_superuser", "outreaching", "silence"]

_TIMEOUT = "10s"
_PATIENCE = "2s"
"""How long an attack beside others waits for a lock, before it is left for when no other runs."""
_TURN = 7_310_031
"""Key of the advisory lock of attacks on one database: shared by those that run side by side."""


@contextlib.contextmanager
def attacking(connection: psycopg.Connection[Any], *, beside: bool = False) -> Iterator[None]:
    """A transaction that is rolled back; within an open one, a part of it that is.

    Alone on its database, or `beside` others: those may then hold rows in the same tables.
    """
    with contextlib.ExitStack() as stack:
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            stack.enter_context(savepoint(connection))
        else:
            stack.enter_context(rolled_back(connection))
            _take_turn(connection, beside=beside)
        connection.execute(f"SET LOCAL statement_timeout = '{_TIMEOUT}'")
        connection.execute("SET LOCAL search_path = ''; SET LOCAL row_security = on")
        yield


def _take_turn(connection: psycopg.Connection[Any], *, beside: bool) -> None:
    """Waits for other workers' attacks on this database: who locks whole tables must be alone with them."""
    connection.execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
    connection.execute(f"SELECT pg_advisory_xact_lock{'_shared' if beside else ''}(%s)".encode(), (_TURN,))
    connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE if beside else _TIMEOUT}'")


def is_superuser(connection: psycopg.Connection[Any]) -> bool:
    """Whether the role in force is one."""
    row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    return bool(row and row[0])


def outreaching(catalog: Catalog) -> Iterator[tuple[Table, str]]:
    """Triggers whose code reaches out of the database, with their tables."""
    for table in catalog.snapshot.tables:
        for trigger in table.triggers:
            function = catalog.functions.get(trigger.function)
            if any(exit_of(each) for each in (catalog.called_by(function) if function else ())):
                yield table, trigger.name


def silence(connection: psycopg.Connection[Any], catalog: Catalog) -> list[str]:
    """Disables triggers whose code would reach out of the database, before anything is written; names them."""
    silenced = []
    for table, trigger in outreaching(catalog):
        connection.execute(f"ALTER TABLE {table.name} DISABLE TRIGGER {ident(trigger)}".encode())
        silenced.append(f"{table.name} {trigger}")
    return silenced
