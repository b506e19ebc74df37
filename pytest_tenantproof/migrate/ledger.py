"""The ledger `tenantproof.migrations`: what was applied, when, by whom, in which order, with which checksum."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from pglast import ast, parse_sql
from pglast.parser import ParseError, scan

from pytest_tenantproof.errors import MigrationError
from pytest_tenantproof.migrate.files import Migration, read_folder
from pytest_tenantproof.target import connect

__all__ = ["Applied", "Status", "apply", "status"]

_LOCK = 0x74656E616E74  # one lock for every run against a database
_PATIENCE = "10min"
_REMEDIES = {
    "55P03": "another session holds the table (see pg_blocking_pids()): let it end, and migrate again.",
    "42501": "migrate as the role that owns the product.",
}
_LEDGER = """
CREATE SCHEMA IF NOT EXISTS tenantproof;
REVOKE ALL ON SCHEMA tenantproof FROM PUBLIC;
CREATE TABLE IF NOT EXISTS tenantproof.migrations (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version text NOT NULL UNIQUE,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL DEFAULT session_user
);
REVOKE ALL ON tenantproof.migrations FROM PUBLIC;
"""


@dataclass(frozen=True, slots=True)
class Applied:
    """One row of a ledger. `sha256` is "" where the ledger (Supabase's) keeps none."""

    seq: int
    version: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Status:
    """How a database compares with a folder. `ledger`: tenantproof, supabase, or "" when there is none."""

    ledger: str
    applied: tuple[Applied, ...]
    pending: tuple[Migration, ...]
    edited: tuple[Migration, ...]
    missing: tuple[Applied, ...]


def status(connection: psycopg.Connection[Any], folder: Path) -> Status:
    """Reads the ledger only. Raises MigrationError when the folder is bad or the ledger cannot be read."""
    files = read_folder(folder)
    ledger, applied = _read(connection, files)
    by_version = {int(a.version): a for a in applied}
    on_disk = {int(m.version) for m in files}
    return Status(
        ledger,
        applied,
        tuple(m for m in files if int(m.version) not in by_version),
        tuple(m for m in files if (a := by_version.get(int(m.version))) and a.sha256 not in ("", m.sha256)),
        tuple(a for a in applied if int(a.version) not in on_disk),
    )


def _read(connection: psycopg.Connection[Any], files: tuple[Migration, ...]) -> tuple[str, tuple[Applied, ...]]:
    try:
        found = connection.execute(
            "SELECT to_regclass('tenantproof.migrations'), to_regclass('supabase_migrations.schema_migrations')"
        ).fetchone()
        if found and found[0] is not None:
            rows = connection.execute(
                "SELECT seq, version, name, sha256 FROM tenantproof.migrations ORDER BY seq"
            ).fetchall()
            return "tenantproof", tuple(Applied(*row) for row in rows)
        if found and found[1] is not None:
            return "supabase", _supabase(connection, files)
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            "the migration ledger cannot be read by this role.",
            remedy="grant it USAGE on the ledger's schema and SELECT on its table.",
        ) from error
    return "", ()


def _supabase(connection: psycopg.Connection[Any], files: tuple[Migration, ...]) -> tuple[Applied, ...]:
    """Supabase keeps the statements, not a checksum: both are compared token by token, comments aside."""
    rows = connection.execute(
        "SELECT version, name, statements FROM supabase_migrations.schema_migrations ORDER BY version"
    ).fetchall()
    by_version = {int(m.version): m for m in files}
    found = []
    for seq, (version, name, statements) in enumerate(rows, 1):
        file = by_version.get(int(version))
        same = file is None or _tokens(";\n".join(statements or ())) == _tokens(file.sql)
        found.append(Applied(seq, version, name or "", "" if same else "differs"))
    return tuple(found)


def _tokens(text: str) -> list[str]:
    """What the server reads of a text. Literals and function bodies are single tokens, so nothing in them is lost."""
    try:
        found = [text[t.start : t.end + 1] for t in scan(text) if not t.name.endswith("COMMENT")]
    except ParseError:
        return [text]
    return [part for part in found if part != ";"]


def apply(dsn: str, folder: Path) -> tuple[Applied, ...]:
    """Applies what is pending, each migration in a transaction of its own, and returns what it applied.

    Two runs exclude each other. A lower version added later is applied, and the ledger's `seq` records the
    order. Raises MigrationError for an edited or missing migration, or one that fails (and changed nothing).
    """
    files = read_folder(folder)
    connection = connect(dsn, limits={})
    try:
        _open_ledger(connection)
        before = status(connection, folder)
        _require_unedited(before, folder)
        for migration in before.pending:
            _apply_one(connection, migration)
        after = status(connection, folder).applied
    finally:
        connection.close()
    known = {a.version for a in before.applied}
    order = {m.version for m in files}
    return tuple(a for a in after if a.version not in known and a.version in order)


def _open_ledger(connection: psycopg.Connection[Any]) -> None:
    """Waits for another run to end, and makes the ledger where there is none."""
    try:
        connection.execute(f"SET lock_timeout = '{_PATIENCE}'")
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        connection.execute("RESET lock_timeout")
        with connection.transaction():
            connection.execute("SET LOCAL client_min_messages = warning")
            connection.execute(_LEDGER)
    except psycopg.errors.LockNotAvailable as error:
        raise MigrationError(
            f"another run has been migrating this database for more than {_PATIENCE}.",
            remedy="wait for it to end; pg_locks (locktype advisory) says which session it is.",
        ) from error
    except psycopg.Error as error:
        raise MigrationError(
            f"the migration ledger cannot be made: {error.diag.message_primary or type(error).__name__}.",
            remedy="migrate as the role that owns the product; it needs CREATE on the database.",
        ) from error


def _require_unedited(found: Status, folder: Path) -> None:
    if found.edited:
        names = ", ".join(f"{m.version}_{m.name}" for m in found.edited)
        raise MigrationError(
            f"applied migrations were edited since: {names}.",
            remedy="restore the files as they were applied and put the change into a new migration.",
        )
    if found.missing:
        names = ", ".join(f"{a.version}_{a.name}" for a in found.missing)
        raise MigrationError(f"applied migrations are missing from {folder}: {names}.", remedy="restore the files.")


def _require_one_transaction(migration: Migration) -> None:
    """A COMMIT in the file would end the transaction that makes it all or nothing."""
    try:
        statements = parse_sql(migration.sql)
    except ParseError:
        return  # the server says what is wrong with it, and changes nothing
    if any(isinstance(raw.stmt, ast.TransactionStmt) for raw in statements):
        raise MigrationError(
            f"migration {migration.version}_{migration.name} controls transactions itself.",
            remedy="remove BEGIN, COMMIT and the like: each file runs in one transaction of its own.",
        )


def _apply_one(connection: psycopg.Connection[Any], migration: Migration) -> None:
    _require_one_transaction(migration)
    try:
        with connection.transaction():
            connection.execute(migration.sql.encode())
            connection.execute("RESET search_path")
            connection.execute(
                "INSERT INTO tenantproof.migrations (version, name, sha256) VALUES (%s, %s, %s)",
                [migration.version, migration.name, migration.sha256],
            )
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error)
        raise MigrationError(
            f"migration {migration.version}_{migration.name} failed and changed nothing: {said}.",
            remedy=error.diag.message_hint or _REMEDIES.get(error.sqlstate or "", "mend the cause and migrate again."),
        ) from error
