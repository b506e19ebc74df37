"""Runs the schema: what precedes the rows, then indexes and constraints, the largest in parallel."""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from pytest_tenantproof.backup.manifest import Manifest, RoleNeeded
from pytest_tenantproof.backup.restore.dump import Entry, SchemaDump
from pytest_tenantproof.backup.restore.empty import NOTHING_KEPT, Kept
from pytest_tenantproof.backup.restore.load import in_parallel, session
from pytest_tenantproof.errors import RestoreError

__all__ = ["create_roles", "finish_schema", "missing_roles", "require_validated", "start_schema"]

Connection = psycopg.Connection[Any]
_APART = ("INDEX", "CONSTRAINT")


def missing_roles(connection: Connection, manifest: Manifest) -> tuple[RoleNeeded, ...]:
    there = {name for (name,) in connection.execute("SELECT rolname::text FROM pg_catalog.pg_roles").fetchall()}
    return tuple(role for role in manifest.roles if role.name not in there)


def create_roles(connection: Connection, roles: Sequence[RoleNeeded], *, exact: bool = False) -> None:
    """Roles that the schema names and the server lacks: without a login, never superuser, unless `exact` (a scratch
    server's). Raises RestoreError."""
    for role in roles:
        if role.superuser and not exact:
            raise RestoreError(
                f"the backup needs the superuser role {role.name}, which this server lacks.",
                remedy="create it by hand, or restore where it exists.",
            )
        words = ["LOGIN" if exact and role.login else "NOLOGIN"]
        words += ["SUPERUSER"] if role.superuser else []
        words += ["BYPASSRLS"] if role.bypass_rls else []
        _execute(connection, psycopg.sql.SQL("CREATE ROLE {} " + " ".join(words)), role.name)
    for role in roles:
        for group in role.member_of:
            _execute(connection, psycopg.sql.SQL("GRANT {} TO {}"), group, role.name)


def _execute(connection: Connection, statement: psycopg.sql.SQL, *names: str) -> None:
    try:
        connection.execute(statement.format(*map(psycopg.sql.Identifier, names)))
    except psycopg.Error as error:
        raise RestoreError(
            f"role {names[-1]} could not be made ready: {error.diag.message_primary}.",
            remedy="create it by hand, or grant the restoring role CREATEROLE.",
        ) from None


def start_schema(dsn: str, dump: SchemaDump) -> None:
    """Types, functions, tables, defaults: nothing that rows wait for. Raises RestoreError."""
    with session(dsn) as connection:
        _run(connection, dump.settings, "the dump's settings")
        for entry in dump.before:
            _one(connection, entry)


def finish_schema(dsn: str, dump: SchemaDump, workers: int) -> None:
    """Indexes and keys table by table, in parallel; then the rest in the dump's order: foreign keys, which check
    every row that is there, triggers, policies, privileges. Raises RestoreError."""
    apart = [entry for entry in dump.after if entry.type in _APART and entry.table]
    tables: dict[str, list[Entry]] = {}
    for entry in apart:
        tables.setdefault(entry.table, []).append(entry)

    def build(connection: Connection, entries: Iterable[Entry]) -> None:
        _run(connection, dump.settings, "the dump's settings")
        for entry in entries:
            _one(connection, entry)

    with session(dsn) as connection:
        sizes = dict(
            connection.execute(
                "SELECT format('%I.%I', n.nspname, c.relname), pg_catalog.pg_relation_size(c.oid)"
                " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'p')"
            ).fetchall()
        )
    largest = sorted(tables, key=lambda table: -sizes.get(table, 0))
    in_parallel(dsn, [tables[table] for table in largest], build, workers)
    chosen = set(map(id, apart))
    with session(dsn) as connection:
        build(connection, [entry for entry in dump.after if id(entry) not in chosen])
        _refresh(connection)


def _refresh(connection: Connection) -> None:
    """Materialized views are filled last, in the order in which they were made."""
    connection.execute("SET row_security = on")
    rows = connection.execute(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid"
    ).fetchall()
    for (name,) in rows:
        _run(connection, f"REFRESH MATERIALIZED VIEW {name}", name)


def _one(connection: Connection, entry: Entry) -> None:
    _run(connection, entry.sql, f"{entry.type} {entry.schema}.{entry.name}")


def _run(connection: Connection, text: str, what: str) -> None:
    """The server's own words on a row stay out: a foreign key that does not hold quotes the key."""
    try:
        connection.execute(text.encode())
    except psycopg.Error as error:
        said = "" if error.diag.message_detail else f": {error.diag.message_primary or ''}"
        raise RestoreError(
            f"the server refused {what} ({error.sqlstate or 'connection lost'}){said}.",
            remedy="restore to a server of the same major version, with the same extensions.",
        ) from None


def require_validated(connection: Connection, dump: SchemaDump, kept: Kept = NOTHING_KEPT) -> None:
    """Every constraint is validated, but what the source itself had NOT VALID or was `kept`. Raises RestoreError."""
    rows = connection.execute(
        "SELECT format('%s.%s %s', n.nspname, c.relname, k.conname) FROM pg_catalog.pg_constraint k"
        " JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE NOT k.convalidated AND coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::boolean, true) ORDER BY 1"
    ).fetchall()
    declared = {f"{entry.schema}.{entry.name}" for entry in dump.after if "NOT VALID" in entry.sql}
    if wrong := [name for (name,) in rows if name not in declared and not kept.holds(name)]:
        raise RestoreError(f"constraints are not validated: {', '.join(wrong[:5])}.", remedy="report this.")
