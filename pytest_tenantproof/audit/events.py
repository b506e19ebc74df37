"""Reads audit events as leaf hashes: the server hashes, 56 bytes an event travel, memory stays bounded."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from pytest_tenantproof.errors import AuditError

__all__ = ["END", "START", "Event", "Horizon", "Place", "leaves", "make_partitions", "reading"]

_SQL = (Path(__file__).parent / "sql" / "leaves.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands: transaction id (xid8), then event id."""

    xid: int
    id: int


START = Place(0, 0)
END = Place(2**63 - 1, 0)


@dataclass(frozen=True, slots=True)
class Event:
    place: Place
    at: datetime
    leaf: bytes


@dataclass(frozen=True, slots=True)
class Horizon:
    """What is closed: every transaction below `xmin` has ended; one of `xmax` or above began after `time`."""

    time: datetime
    xmin: int
    xmax: int
    database: str


def make_partitions(connection: psycopg.Connection[Any]) -> int:
    """Makes the partitions of the coming months; gives how many were missing. Raises AuditError."""
    with _explained():
        row = connection.execute("SELECT tenantproof.audit_partitions()").fetchone()
    return int(row[0]) if row else 0


@contextlib.contextmanager
def reading(connection: psycopg.Connection[Any]) -> Iterator[Horizon]:
    """One snapshot in which to read, past row security. Raises AuditError when the role may not, or there is no log."""
    with _explained(), connection.transaction(force_rollback=True):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SELECT set_config('row_security', 'off', true), set_config('TimeZone', 'UTC', true)")
        row = connection.execute(
            "SELECT transaction_timestamp(), pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint,"
            " current_database() FROM pg_current_snapshot() s"
        ).fetchone()
        if row is None:
            raise AuditError("the database names no snapshot.", remedy="check the server's log.")
        yield Horizon(*row)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    errors = psycopg.errors
    try:
        yield
    except (errors.InvalidSchemaName, errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction) as error:
        raise AuditError(
            "this database has no audit log of the shipped form.", remedy="apply 002_audit_events.sql."
        ) from error
    except errors.InsufficientPrivilege as error:
        raise AuditError(
            "this role may not read every audit event, or make its partitions.",
            remedy="connect as a role that reads public.audit_events past row security.",
        ) from error


def leaves(connection: psycopg.Connection[Any], start: Place, end: Place, most: int | None = None) -> Iterator[Event]:
    """The events of [start, end) in order, at most `most`, streamed. Call it within `reading`."""
    values = {"from_xid": start.xid, "from_id": start.id, "to_xid": end.xid, "to_id": end.id, "most": most}
    with connection.cursor(name="tenantproof_leaves") as cursor:
        cursor.itersize = 5_000
        cursor.execute(_SQL.encode(), values)
        for xid, number, at, leaf in cursor:
            yield Event(Place(xid, number), at, bytes(leaf))
