"""The pool for asyncio: the same rules, the same messages."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.generators import execute
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

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
from pytest_tenantproof.client.session import AsyncExtendedCursor, judge_session, rows_of, session_query, value_of

__all__ = ["AsyncTenantPool", "AsyncTenantSession"]


class AsyncTenantSession(Handle):
    """The handle of one transaction. It dies with its block; it is not to be made by hand."""

    async def execute(self, query: Query, parameters: Parameters = None) -> Rows:
        """Runs one statement, with psycopg's placeholders. Raises TenantScopeError for what no scope may run."""
        text, values = self._one(query, parameters)
        await self._begun()
        return await _sent(self._connection, text, values)

    async def executemany(self, query: Query, rows: Iterable[Any]) -> int:
        """Runs one statement for each set of parameters; gives the number of rows touched."""
        text, values = self._many(query, rows)
        await self._begun()
        cursor = AsyncExtendedCursor(self._connection)
        await cursor.executemany(text, values)
        return cursor.rowcount

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the transaction that can fail alone. The binding is verified after its rollback."""
        await self._begun()
        begin, back, release = self._savepoint()
        await _run(self._connection, begin)
        try:
            yield
        except BaseException:
            await _run(self._connection, back)
            raise
        await _run(self._connection, release)

    async def _begun(self) -> None:
        """Waits until the transaction is bound, if it is not known yet. Raises what the binding raised."""
        if self._scope.binding is None:
            async with self._connection.lock:
                self._scope.binding = value_of(await self._connection.wait(execute(self._connection.pgconn)))


class AsyncTenantPool(Pool):
    __doc__ = Pool.__doc__

    def _made(self) -> None:
        self._pool: AsyncConnectionPool[Any] | None = None
        self._cross: AsyncConnectionPool[Any] | None = None

    async def open(self) -> None:
        """Connects; `async with` does it. Raises TenantScopeError for a login that could get round row security."""
        self._rules = await asyncio.to_thread(self._read_rules)
        self._pool = self._opened(self._dsn, self._rules.scoped_role, may_bypass=False)
        self._cross = self._opened(self._cross_dsn, self._rules.service_role, may_bypass=True, min_size=0)
        for pool in filter(None, (self._pool, self._cross)):
            await pool.open()

    def _opened(self, dsn: str, role: str, *, may_bypass: bool, **sizes: int) -> AsyncConnectionPool[Any] | None:
        async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
            cursor = AsyncExtendedCursor(connection, row_factory=tuple_row)
            row = await (await cursor.execute(session_query().encode(), [role])).fetchone()
            judge_session(row, role, may_bypass=may_bypass)

        if not dsn:
            return None
        options: dict[str, Any] = self._sizes | sizes
        return AsyncConnectionPool(dsn, kwargs=self._kwargs, configure=configure, open=False, **options)

    @asynccontextmanager
    async def tenant(
        self, tenant_id: object, *, actor: str, request_id: str = "", read_only: bool = False
    ) -> AsyncIterator[AsyncTenantSession]:
        """One transaction that sees one tenant, committed at the end of the block, rolled back on an exception.

        Raises TenantScopeError for a missing, malformed or wrong-type tenant id or actor, and inside another scope.
        """
        scope = enter(actor, tenant_id, tenant_needed=True)
        try:
            request = check_text("request id", request_id, actor)
            async with self._of(self._pool).connection() as connection:
                begin = self._rules.begin(quoting(connection), scope, request=request, read_only=read_only)
                scope.binding = None
                connection.pgconn.send_query(begin)
                connection.pgconn.flush()
                session = AsyncTenantSession(connection, scope, self._rules)
                try:
                    yield session
                finally:
                    await session._begun()
                await _run(connection, session._ending())
        finally:
            scope.alive = False

    async def execute(self, query: Query, parameters: Parameters = None) -> Rows:
        """Runs one statement that touches no tenant table, in a transaction of its own.

        Raises TenantScopeError, before anything is sent, for one that does, and inside a scope.
        """
        require_no_scope()
        async with self._of(self._pool).connection() as connection:
            statement = check_outside(self._rules, query, parameters, connection)
            await _run(connection, self._rules.unbound())
            rows = await _sent(connection, statement.text.encode(), arranged(statement, parameters))
            await _run(connection, b"COMMIT")
            return rows

    @asynccontextmanager
    async def all_tenants(self, *, reason: str, actor: str) -> AsyncIterator[AsyncTenantSession]:
        """One transaction that sees every tenant, recorded in the database before it begins.

        Raises TenantScopeError without `cross_tenant_dsn`, without a reason, and inside another scope.
        """
        scope = enter(actor, tenant_needed=False)
        try:
            why = check_text("reason", reason, actor, shortest=8)
            loud(actor, why)
            async with self._of(self._cross).connection() as connection:
                for message in self._rules.cross_tenant(quoting(connection), actor, why):
                    await _run(connection, message)
                session = AsyncTenantSession(connection, scope, self._rules)
                yield session
                await _run(connection, session._ending())
        finally:
            scope.alive = False

    async def close(self) -> None:
        """Closes every connection."""
        for pool in filter(None, (self._pool, self._cross)):
            await pool.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _sent(connection: psycopg.AsyncConnection[Any], text: bytes, parameters: Any) -> Rows:
    cursor = AsyncExtendedCursor(connection)
    await cursor.execute(text, parameters or None)
    return rows_of(cursor, await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else [])


async def _run(connection: psycopg.AsyncConnection[Any], script: bytes) -> str:
    """Sends the client's own commands as one message; gives the last value, where there is one."""
    async with connection.lock:
        connection.pgconn.send_query(script)
        return value_of(await connection.wait(execute(connection.pgconn)))
