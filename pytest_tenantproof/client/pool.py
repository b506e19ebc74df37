"""A pool that hands out transactions of one tenant each."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result
from psycopg.rows import RowFactory, tuple_row
from psycopg_pool import ConnectionPool

from pytest_tenantproof.client.scope import (
    Parameters,
    Query,
    Rows,
    Rules,
    Scope,
    arranged,
    check,
    check_outside,
    check_text,
    enter,
    loud,
    quoting,
    refused,
    require_no_scope,
)
from pytest_tenantproof.client.session import ExtendedCursor, judge_session, read_rules, rows_of, session_query

__all__ = ["TenantPool", "TenantSession"]


class TenantSession:
    """The handle of one transaction. It dies with its block; it is not to be made by hand."""

    def __init__(self, connection: psycopg.Connection[Any], scope: Scope, rules: Rules) -> None:
        self._connection = connection
        self._scope = scope
        self._rules = rules

    def execute(self, query: Query, parameters: Parameters = None) -> Rows:
        """Runs one statement, with psycopg's placeholders. Raises TenantScopeError for what no scope may run."""
        statement = check(self._scope, query, parameters, self._connection)
        return _sent(self._connection, statement.text, arranged(statement, parameters))

    def executemany(self, query: Query, rows: Iterable[Any]) -> int:
        """Runs one statement for each set of parameters; gives the number of rows touched."""
        statement = check(self._scope, query, (), self._connection)
        with ExtendedCursor(self._connection) as cursor:
            cursor.executemany(statement.text.encode(), [arranged(statement, row) for row in rows])
            return cursor.rowcount

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that can fail alone. The binding is verified after its rollback."""
        check(self._scope, "SELECT", None, self._connection)
        self._scope.savepoints += 1
        name = f"tenantproof_{self._scope.savepoints}"
        _run(self._connection, f"SAVEPOINT {name}".encode())
        try:
            yield
        except BaseException:
            back = f"ROLLBACK TO SAVEPOINT {name}".encode()
            _run(self._connection, self._rules.verified(quoting(self._connection), self._scope, before=back))
            raise
        _run(self._connection, f"RELEASE SAVEPOINT {name}".encode())


class TenantPool:
    """Connections of a role that can reach one tenant a transaction.

    `tenant_tables` names the tables that only a tenant scope may touch; default: every relation with a tenant
    column. `cross_tenant_dsn` logs in as the role for all_tenants(); without it there is no cross-tenant work.
    Raises TenantScopeError for a login that could get round row security.
    """

    def __init__(
        self,
        dsn: str,
        *,
        tenant_tables: Iterable[str] | None = None,
        cross_tenant_dsn: str = "",
        config: str | Path | None = None,
        min_size: int = 1,
        max_size: int = 10,
        timeout: float = 30.0,
        row_factory: RowFactory[Any] = tuple_row,
    ) -> None:
        self._rules = read_rules(dsn, tenant_tables, config)
        self._sizes = {"min_size": min_size, "max_size": max_size, "timeout": timeout}
        self._kwargs = {"autocommit": True, "prepare_threshold": None, "row_factory": row_factory}
        self._pool = self._opened(dsn, self._rules.scoped_role, may_bypass=False)
        self._cross = self._opened(cross_tenant_dsn, self._rules.service_role, may_bypass=True, min_size=0)

    def _opened(self, dsn: str, role: str, *, may_bypass: bool, **sizes: int) -> ConnectionPool[Any] | None:
        def configure(connection: psycopg.Connection[Any]) -> None:
            with ExtendedCursor(connection, row_factory=tuple_row) as cursor:
                row = cursor.execute(session_query().encode(), [role]).fetchone()
            judge_session(row, role, may_bypass=may_bypass)

        if not dsn:
            return None
        options: dict[str, Any] = self._sizes | sizes
        return ConnectionPool(dsn, kwargs=self._kwargs, configure=configure, open=True, **options)

    @contextmanager
    def tenant(
        self, tenant_id: object, *, actor: str, request_id: str = "", read_only: bool = False
    ) -> Iterator[TenantSession]:
        """One transaction that sees one tenant, committed at the end of the block, rolled back on an exception.

        Raises TenantScopeError for a missing, malformed or wrong-type tenant id or actor, and inside another scope.
        """
        scope = enter(actor, tenant_id, tenant_needed=True)
        try:
            request = check_text("request id", request_id, actor)
            with self._of(self._pool).connection() as connection:
                quote = quoting(connection)
                begin = self._rules.begin(quote, scope, request=request, read_only=read_only)
                scope.binding = _run(connection, begin)
                yield TenantSession(connection, scope, self._rules)
                scope.alive = False
                _run(connection, self._rules.verified(quote, scope, after=b"COMMIT"))
        finally:
            scope.alive = False

    def execute(self, query: Query, parameters: Parameters = None) -> Rows:
        """Runs one statement that touches no tenant table, in a transaction of its own.

        Raises TenantScopeError, before anything is sent, for one that does, and inside a scope.
        """
        require_no_scope()
        with self._of(self._pool).connection() as connection:
            statement = check_outside(self._rules, query, parameters, connection)
            _run(connection, self._rules.unbound())
            rows = _sent(connection, statement.text, arranged(statement, parameters))
            _run(connection, b"COMMIT")
            return rows

    @contextmanager
    def all_tenants(self, *, reason: str, actor: str) -> Iterator[TenantSession]:
        """One transaction that sees every tenant, recorded in the database before it begins.

        Raises TenantScopeError without `cross_tenant_dsn`, without a reason, and inside another scope.
        """
        scope = enter(actor, tenant_needed=False)
        try:
            why = check_text("reason", reason, actor, shortest=8)
            loud(actor, why)
            with self._of(self._cross).connection() as connection:
                quote = quoting(connection)
                _run(connection, self._rules.logged(quote, actor, why))
                _run(connection, self._rules.cross_tenant(quote, actor))
                yield TenantSession(connection, scope, self._rules)
                scope.alive = False
                _run(connection, b"COMMIT")
        finally:
            scope.alive = False

    def _of(self, pool: ConnectionPool[Any] | None) -> ConnectionPool[Any]:
        if pool is None:
            raise refused("this pool has no login for cross-tenant work", "pass cross_tenant_dsn to TenantPool.")
        return pool

    def close(self) -> None:
        """Closes every connection."""
        for pool in filter(None, (self._pool, self._cross)):
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sent(connection: psycopg.Connection[Any], text: str, parameters: Any) -> Rows:
    with ExtendedCursor(connection) as cursor:
        cursor.execute(text.encode(), parameters or None)
        return rows_of(cursor, cursor.fetchall() if cursor.description else [])


def _run(connection: psycopg.Connection[Any], script: bytes) -> str:
    """Sends the client's own commands as one message; gives the last value, where there is one.

    Straight through libpq: for two such messages a transaction, a cursor each costs more than the binding itself.
    """
    with connection.lock:
        result = connection.pgconn.exec_(script)
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise error_from_result(result, encoding="utf-8")
    value = result.get_value(0, 0) if result.ntuples else None
    return value.decode() if value else ""
