"""One consistent snapshot, held by the leader for as long as workers may join it."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from pytest_tenantproof.backup.counts import Counted, count_by_tenant
from pytest_tenantproof.backup.plan import BackupPlan, read_plan
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import BackupError
from pytest_tenantproof.target import connect

__all__ = ["ADVISORY_KEY", "SESSION", "HeldSnapshot", "hold_snapshot", "join_snapshot"]

ADVISORY_KEY = int.from_bytes(hashlib.sha256(b"tenantproof/backup").digest()[:8], "big", signed=True)
"""The advisory lock that a running backup holds in its database."""

# row_security = off makes a role that policies bind fail instead of reading less, without index-only scans rows are
# counted in the table and not in an index that may lack some; the rest makes text exact and the same everywhere, as
# pg_dump does.
SESSION: tuple[LiteralString, ...] = (
    "SET LOCAL row_security = off",
    "SET LOCAL enable_indexonlyscan = off",
    "SET LOCAL client_encoding = 'UTF8'",
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL intervalstyle = 'postgres'",
    "SET LOCAL timezone = 'UTC'",
    "SET LOCAL extra_float_digits = 3",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL lc_monetary = 'C'",
    "SET LOCAL xmloption = 'content'",
    "SET LOCAL search_path = ''",
    "SET LOCAL synchronize_seqscans = off",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    "SET LOCAL work_mem = '64MB'",
)


@dataclass(frozen=True, slots=True)
class HeldSnapshot:
    """A snapshot that others may join by `id`; `counts` are of the plan's tables."""

    connection: psycopg.Connection[Any]
    id: str
    at: datetime
    plan: BackupPlan
    counts: tuple[Counted, ...]

    def alive(self) -> bool:
        """Whether the leader still holds its locks: without them a worker could have read a rewritten table."""
        try:
            self.connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


def limits(settings: Settings) -> dict[str, str]:
    """Server-side bounds of every session of a backup."""
    return {
        "statement_timeout": f"{settings.backup.max_minutes}min",
        "lock_timeout": f"{settings.backup.lock_timeout_s}s",
    }


@contextlib.contextmanager
def hold_snapshot(dsn: str, settings: Settings, run: str) -> Iterator[HeldSnapshot]:
    """Locks every table in ACCESS SHARE, then takes and exports a REPEATABLE READ snapshot.

    Raises BackupError when another backup of this database runs, or when tables keep changing;
    psycopg.Error and TargetUnreachable as they come.
    """
    connection = connect(dsn, limits=limits(settings) | {"application_name": f"tenantproof-backup-{run}"})
    try:
        plan = _locked_plan(connection, settings)
        row = connection.execute("SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", [ADVISORY_KEY]).fetchone()
        if row is None or not row[0]:
            raise BackupError(
                "another backup of this database is running.",
                remedy="wait for it; pg_stat_activity shows it as tenantproof-backup-*.",
            )
        taken = connection.execute("SELECT pg_catalog.pg_export_snapshot(), now()").fetchone()
        assert taken is not None
        counts = tuple(count_by_tenant(connection, table) for table in plan.tables)
        yield HeldSnapshot(connection, taken[0], taken[1].astimezone(UTC), plan, counts)
    finally:
        connection.close()


def begin(connection: psycopg.Connection[Any]) -> None:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    for statement in SESSION:
        connection.execute(statement)


def _locked_plan(connection: psycopg.Connection[Any], settings: Settings) -> BackupPlan:
    """The plan as it is in the snapshot, all its tables locked before the snapshot was taken.

    LOCK and SET take no snapshot, so what the lock waited for is seen; the plan is read again behind it.
    """
    for _ in range(5):
        before = read_plan(connection, settings)
        begin(connection)
        names = sql.SQL(", ").join(sql.SQL(t.name) for t in before.tables)
        try:
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
        except psycopg.errors.UndefinedTable:
            connection.execute("ROLLBACK")
            continue
        plan = read_plan(connection, settings)
        if plan.shape == before.shape:
            return plan
        connection.execute("ROLLBACK")
    raise BackupError("tables keep changing while a backup begins.", remedy="run it outside migrations.")


def join_snapshot(dsn: str, snapshot: str, options: dict[str, str]) -> psycopg.Connection[Any]:
    """A worker's session inside the leader's snapshot."""
    connection = connect(dsn, limits=options)
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        for statement in SESSION:
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection
