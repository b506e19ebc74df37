"""A pool that hands out transactions of one tenant each."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.generators import execute
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool

from pytest_tenantproof.client.base import Handle, Pool
from pytest_tenantproof.client.scope import (
    Parameters,
    Query,
    Rows,
    arranged,
    check_outside,
    check_text,
    enter,
    loud,
    quoting,
    require_no_scope,
)
from pytest_tenantproof.client.session import ExtendedCursor, judge_session, rows_of, session_query, value_of

__all__ = ["TenantPool", "TenantSession"]


class TenantSession(Handle):
    """The handle of one transaction. It dies with its block; it is not to be made by hand."""

    def execute(self, query: Query, parameters: Parameters = None) -> Rows:
        """Runs one statement, with psycopg's placeholders. Raises TenantScopeError for what no scope may run."""
        text, values = self._one(query, parameters)
        self._begun()
        return _sent(self._connection, text, values)

    def executemany(self, query: Query, rows: Iterable[Any]) -> int:
        """Runs one statement for each set of parameters; gives the number of rows touched."""
        text, values = self._many(query, rows)
        self._begun()
        cursor = ExtendedCursor(self._connection)
        cursor.executemany(text, values)
        return cursor.rowcount

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that can fail alone. The binding is verified after its rollback."""
        self._begun()
        begin, back, release = self._savepoint()
        _run(self._connection, begin)
        try:
            yield
        except BaseException:
            _run(self._connection, back)
            raise
        _run(self._connection, release)

    def _begun(self) -> None:
        """Waits until the transaction is bound, if it is not known yet. Raises what the binding raised."""
        if self._scope.binding is None:
            with self._connection.lock:
                self._scope.binding = value_of(self._connection.wait(execute(self._connection.pgconn)))


class TenantPool(Pool):
    __doc__ = Pool.__doc__

    def _made(self) -> None:
        self._rules = self._read_rules()
        self._pool = self._opened(self._dsn, self._rules.scoped_role, may_bypass=False)
        self._cross = self._opened(self._cross_dsn, self._rules.service_role, may_bypass=True, min_size=0)

    def _opened(self, dsn: str, role: str, *, may_bypass: bool, **sizes: int) -> ConnectionPool[Any] | None:
        def configure(connection: psycopg.Connection[Any]) -> None:
            cursor = ExtendedCursor(connection, row_factory=tuple_row)
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
                begin = self._rules.begin(quoting(connection), scope, request=request, read_only=read_only)
                scope.binding = None
                connection.pgconn.send_query(begin)
                connection.pgconn.flush()
                session = TenantSession(connection, scope, self._rules)
                try:
                    yield session
                finally:
                    session._begun()
                _run(connection, session._ending())
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
            rows = _sent(connection, statement.text.encode(), arranged(statement, parameters))
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
                for message in self._rules.cross_tenant(quoting(connection), actor, why):
                    _run(connection, message)
                session = TenantSession(connection, scope, self._rules)
                yield session
                _run(connection, session._ending())
        finally:
            scope.alive = False

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


def _sent(connection: psycopg.Connection[Any], text: bytes, parameters: Any) -> Rows:
    cursor = ExtendedCursor(connection)
    cursor.execute(text, parameters or None)
    return rows_of(cursor, cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else [])


def _run(connection: psycopg.Connection[Any], script: bytes) -> str:
    """Sends the client's own commands as one message; gives the last value, where there is one.

    Straight through libpq: for two such messages a transaction, a cursor each costs more than the binding itself.
    """
    with connection.lock:
        return value_of([connection.pgconn.exec_(script)])
