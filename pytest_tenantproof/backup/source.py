"""What a manifest says of the database beside its rows: identity, roles, sequences, migration ledger, schema."""

import os
import subprocess
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from pytest_tenantproof.backup.manifest import RoleNeeded, SequenceState, Source
from pytest_tenantproof.errors import BackupError, TargetUnreachable
from pytest_tenantproof.target import dsn_parts, find_bin

__all__ = ["dump_schema", "find_pg_dump", "read_extras", "read_ledger", "read_roles", "read_sequences", "read_source"]

Connection = psycopg.Connection[Any]

# Where tools that apply migrations keep what they applied: this one, the Supabase CLI, and others.
_LEDGERS = (
    ("tenantproof", "migrations"),
    ("tenantproof", "schema_migrations"),
    ("supabase_migrations", "schema_migrations"),
    ("public", "schema_migrations"),
    ("public", "alembic_version"),
    ("public", "_prisma_migrations"),
)
_LEDGER_COLUMNS = ("version", "name", "version_num", "migration_name", "filename", "checksum", "sha256")


def _query(name: str) -> bytes:
    return (resources.files("pytest_tenantproof.backup") / "sql" / f"{name}.sql").read_bytes()


def read_source(connection: Connection) -> Source:
    """Identity of the database. Does not need the snapshot; call it before one is taken."""
    row = connection.execute(
        "SELECT current_database(), current_setting('server_version'), current_setting('server_encoding')"
    ).fetchone()
    assert row is not None
    try:
        control = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        control = None
    return Source(control[0] if control else "unknown", row[0], row[1], row[2])


def read_roles(connection: Connection) -> tuple[RoleNeeded, ...]:
    """Roles that own, or are granted, something in this database, and the roles these are members of."""
    found = connection.execute(_query("roles")).fetchall()
    return tuple(RoleNeeded(r[0], r[1], r[2], r[3], tuple(r[4])) for r in found)


def read_sequences(
    connection: Connection, *, passed_over: Callable[[str], bool] = lambda _: False
) -> tuple[SequenceState, ...]:
    """State of every sequence but those `passed_over`. Sequences obey no snapshot, so this is the state now: never
    behind the rows."""
    names = [row[0] for row in connection.execute(_query("sequences")).fetchall() if not passed_over(row[0])]
    states = []
    for name in names:
        row = connection.execute(f"SELECT last_value, is_called FROM {name}".encode()).fetchone()
        assert row is not None
        states.append(SequenceState(name, row[0], row[1]))
    return tuple(states)


def read_ledger(connection: Connection) -> tuple[dict[str, Any], ...]:
    """The migrations recorded as applied, by the tools known: table, and version, name or checksum."""
    entries: list[dict[str, Any]] = []
    for schema, table in _LEDGERS:
        columns = connection.execute(
            "SELECT a.attname::text FROM pg_catalog.pg_attribute a"
            " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r' AND a.attnum > 0"
            " AND NOT a.attisdropped AND a.attname = ANY (%s) ORDER BY a.attnum",
            [schema, table, list(_LEDGER_COLUMNS)],
        ).fetchall()
        if columns:
            names = [row[0] for row in columns]
            listed = ", ".join(f"{name}::text" for name in names)
            rows = connection.execute(f"SELECT {listed} FROM {schema}.{table} ORDER BY 1".encode()).fetchall()
            entries += [{"table": f"{schema}.{table}", **dict(zip(names, row, strict=True))} for row in rows]
    return tuple(entries)


def read_extras(connection: Connection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Extensions as name=version, and kinds of content that a backup does not hold."""
    extensions = connection.execute(
        "SELECT extname || '=' || extversion FROM pg_catalog.pg_extension ORDER BY 1"
    ).fetchall()
    missing = connection.execute(_query("not_included")).fetchall()
    return tuple(r[0] for r in extensions), tuple(r[0] for r in missing)


def find_pg_dump(major: int) -> Path | None:
    """pg_dump of exactly this major version; None when there is none."""
    try:
        found = find_bin(major).path / "pg_dump"
    except TargetUnreachable:
        return None
    return found if os.access(found, os.X_OK) else None


def dump_schema(pg_dump: Path, dsn: str, snapshot: str) -> Iterator[bytes]:
    """The schema as SQL, streamed, as of the snapshot. The password goes by the environment, never by argv.

    Raises BackupError when pg_dump fails; what it yielded by then is not whole.
    """
    given = dsn_parts(dsn)
    environment = dict(os.environ)
    if password := given.pop("password", None):
        environment["PGPASSWORD"] = str(password)
    command = [str(pg_dump), "--schema-only", f"--snapshot={snapshot}", "--no-password"]
    command += ["-d", make_conninfo("", **given)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while piece := process.stdout.read(1 << 16):
                yield piece
            problem = process.stderr.read().decode(errors="replace").strip().splitlines()
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise BackupError(
            f"pg_dump of the schema failed: {problem[-1] if problem else process.returncode}",
            remedy="check that the backup role may read every object's definition.",
        )
