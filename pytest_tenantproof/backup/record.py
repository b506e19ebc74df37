"""The records of backups and drills in the database they are of (003_backup_metadata.sql)."""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.errors import BackupError
from pytest_tenantproof.target import connect

__all__ = ["record_backup", "record_drill"]

_COLUMNS = (
    "SELECT attname::text FROM pg_catalog.pg_attribute"
    " WHERE attrelid = pg_catalog.to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
)


def record_backup(dsn: str, row: Mapping[str, Any]) -> bool:
    """Adds a row to public.backup_runs; False where there is no such table. A column that it lacks is left out.

    Raises TargetUnreachable, or BackupError when the table refuses the row.
    """
    return _record(dsn, "backup_runs", row)


def record_drill(dsn: str, row: Mapping[str, Any]) -> bool:
    """The same for public.restore_drills."""
    return _record(dsn, "restore_drills", row)


def _record(dsn: str, table: str, row: Mapping[str, Any]) -> bool:
    connection = connect(dsn)
    try:
        there = {name for (name,) in connection.execute(_COLUMNS, [f"public.{table}"]).fetchall()}
        if not there:
            return False
        names = [name for name in row if name in there]
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier("public", table),
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join(map(sql.Placeholder, names)),
        )
        connection.execute(statement, dict(row))
    except psycopg.Error as error:
        raise BackupError(
            f"the record could not be added to public.{table}: {type(error).__name__} ({error.sqlstate}).",
            remedy=f"apply the migrations, and grant the writer role INSERT on public.{table}.",
        ) from None
    finally:
        connection.close()
    return True
