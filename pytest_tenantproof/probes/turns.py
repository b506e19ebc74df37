"""The transaction of an attack: one at a time on each database, bounded in time, undone whatever happens."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.plpgsql import exit_of
from pytest_tenantproof.probes.rows import savepoint
from pytest_tenantproof.probes.values import ident
from pytest_tenantproof.target import rolled_back

__all__ = ["attacking", "is_superuser", "silence"]

_TIMEOUT = "10s"
_TURN = 7_310_031
"""Key of the advisory lock that attacks on one database take in turn."""


@contextlib.contextmanager
def attacking(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """A transaction that is rolled back; within an open one, a part of it that is."""
    with contextlib.ExitStack() as stack:
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            stack.enter_context(savepoint(connection))
        else:
            stack.enter_context(rolled_back(connection))
            _take_turn(connection)
        connection.execute(f"SET LOCAL statement_timeout = '{_TIMEOUT}'")
        connection.execute("SET LOCAL search_path = ''; SET LOCAL row_security = on")
        yield


def _take_turn(connection: psycopg.Connection[Any]) -> None:
    """Waits for other workers' attacks on this database: each locks tables in its own order, so two would deadlock."""
    connection.execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_TURN,))
    connection.execute(f"SET LOCAL lock_timeout = '{_TIMEOUT}'")


def is_superuser(connection: psycopg.Connection[Any]) -> bool:
    """Whether the role in force is one."""
    row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    return bool(row and row[0])


def silence(connection: psycopg.Connection[Any], catalog: Catalog) -> list[str]:
    """Disables triggers whose code would reach out of the database, before anything is written; names them."""
    silenced = []
    for table in catalog.snapshot.tables:
        for trigger in table.triggers:
            function = catalog.functions.get(trigger.function)
            called = catalog.called_by(function) if function else ()
            if any(exit_of(each) for each in called):
                connection.execute(f"ALTER TABLE {table.name} DISABLE TRIGGER {ident(trigger.name)}".encode())
                silenced.append(f"{table.name} {trigger.name}")
    return silenced
