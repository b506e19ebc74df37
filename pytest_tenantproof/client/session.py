"""What a session must be before a pool uses it, and what the pools know from the start."""

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from pytest_tenantproof.client.scope import Rows, Rules, refused
from pytest_tenantproof.config import Settings, find_config, load_settings
from pytest_tenantproof.target import dsn_parts

__all__ = [
    "AsyncExtendedCursor",
    "ExtendedCursor",
    "judge_session",
    "read_rules",
    "rows_of",
    "session_query",
    "value_of",
]


class ExtendedCursor(psycopg.RawCursor[Any]):
    """Sends every statement by the extended protocol, in which the server itself accepts one command only."""

    def _execute_send(self, query: Any, *, force_extended: bool = False, binary: bool | None = None) -> None:
        super()._execute_send(query, force_extended=True, binary=binary)


class AsyncExtendedCursor(psycopg.AsyncRawCursor[Any]):
    """ExtendedCursor for asyncio."""

    def _execute_send(self, query: Any, *, force_extended: bool = False, binary: bool | None = None) -> None:
        super()._execute_send(query, force_extended=True, binary=binary)


def session_query() -> str:
    """The query whose one row `judge_session` judges; its parameter is the role wanted."""
    return _sql("session.sql")


def judge_session(row: Any, role: str, *, may_bypass: bool) -> None:
    """Raises TenantScopeError for a session that could get round row security, or cannot become `role`."""
    exempt, others, reachable, dangerous, bypasses = row
    remedy = f"log in as a NOINHERIT role that is a member of {role} alone; see docs/CLIENT.md."
    if exempt:
        raise refused("the session's role is a superuser or bypasses row security", remedy)
    if others:
        raise refused(f"the session's role can also become {', '.join(others)}", remedy)
    if not reachable:
        raise refused(f"the session's role cannot become {role}", remedy)
    if dangerous or (bypasses and not may_bypass):
        raise refused(f"{role} is a superuser, can log in or bypasses row security", "apply migration 005.")


def read_rules(dsn: str, tenant_tables: Iterable[str] | None, config: str | Path | None) -> Rules:
    """Roles and tenant tables by the config and, where none are given, by the database's catalog.

    Raises ConfigError for a bad config, TargetUnreachable for a malformed DSN, TenantScopeError for a session that is
    not to be used.
    """
    settings = load_settings(Path(config) if config else find_config(Path.cwd()))
    role = next(iter(settings.scoped_roles), "app_scoped")
    dsn_parts(dsn)  # the driver's own errors would quote a malformed one
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        cursor = ExtendedCursor(connection)
        judge_session(cursor.execute(session_query().encode(), [role]).fetchone(), role, may_bypass=False)
        given = [_split(name) for name in tenant_tables or ()] or [
            (row[0], row[1])
            for row in cursor.execute(_sql("tenant_tables.sql").encode(), [list(settings.tenant_column)]).fetchall()
        ]
    service = next(iter(settings.service_roles), "service_role")
    return Rules(role, service, frozenset({*given, *map(_split, _declared(settings))}))


def _declared(settings: Settings) -> tuple[str, ...]:
    derived = (table.table for table in settings.derived_tables)
    return (settings.tenant_table, *settings.membership_tables, *settings.audit_tables, *derived)


def _split(name: str) -> tuple[str, str]:
    schema, _, table = name.rpartition(".")
    return schema or "public", table


def _sql(name: str) -> str:
    return resources.files(__package__).joinpath("sql", name).read_text(encoding="utf-8")


def rows_of(cursor: Any, rows: list[Any]) -> Rows:
    """The answer to a statement, whose rows have all been fetched. Names come from libpq: psycopg's cost an object."""
    result = cursor.pgresult
    names = [result.fname(n).decode() for n in range(result.nfields)] if result else []
    return Rows(rows, names, cursor.rowcount)


def value_of(results: Sequence[pq.abc.PGresult]) -> str:
    """The last value that the client's own commands gave, or nothing. Raises the psycopg.Error of one that failed."""
    for result in results:
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise error_from_result(result, encoding="utf-8")
    value = results[-1].get_value(0, 0) if results and results[-1].ntuples else None
    return value.decode() if value else ""
