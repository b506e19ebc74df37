"""The record of a backup in the database it is of: public.backup_runs (003_backup_metadata.sql)."""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.errors import BackupError
from pytest_tenantproof.target import connect

__all__ = ["record_backup"]

_COLUMNS = (
    "SELECT attname::text FROM pg_catalog.pg_attribute"
    " WHERE attrelid = pg_catalog.to_regclass('public.backup_runs') AND attnum > 0 AND NOT attisdropped"
)


def record_backup(dsn: str, row: Mapping[str, Any]) -> bool:
    """Adds a row; False where there is no such table. A column that the table lacks is left out.

    Raises TargetUnreachable, or BackupError when the table refuses the row.
    """
    connection = connect(dsn)
    try:
        there = {name for (name,) in connection.execute(_COLUMNS).fetchall()}
        if not there:
            return False
        names = [name for name in row if name in there]
        statement = sql.SQL("INSERT INTO public.backup_runs ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(map(sql.Placeholder, names))
        )
        connection.execute(statement, dict(row))
    except psycopg.Error as error:
        raise BackupError(
            f"the backup could not be recorded in public.backup_runs: {type(error).__name__} ({error.sqlstate}).",
            remedy="apply the migrations, and grant the writer role INSERT on public.backup_runs.",
        ) from None
    finally:
        connection.close()
    return True
