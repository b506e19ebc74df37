"""The pool for asyncio: the same rules, the same messages."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.rows import RowFactory, tuple_row
from psycopg_pool import AsyncConnectionPool

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
from pytest_tenantproof.client.session import AsyncExtendedCursor, judge_session, read_rules, rows_of, session_query

__all__ = ["AsyncTenantPool", "AsyncTenantSession"]


class AsyncTenantSession:
    """The handle of one transaction. It dies with its block; it is not to be made by hand."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], scope: Scope, rules: Rules) -> None:
        self._connection = connection
        self._scope = scope
        self._rules = rules

    async def execute(self, query: Query, parameters: Parameters = None) -> Rows:
        """Runs one statement, with psycopg's placeholders. Raises TenantScopeError for what no scope may run."""
        statement = check(self._scope, query, parameters, self._connection)
        return await _sent(self._connection, statement.text, arranged(statement, parameters))

    async def executemany(self, query: Query, rows: Iterable[Any]) -> int:
        """Runs one statement for each set of parameters; gives the number of rows touched."""
        statement = check(self._scope, query, (), self._connection)
        async with AsyncExtendedCursor(self._connection) as cursor:
            await cursor.executemany(statement.text.encode(), [arranged(statement, row) for row in rows])
            return cursor.rowcount

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the transaction that can fail alone. The binding is verified after its rollback."""
        check(self._scope, "SELECT", None, self._connection)
        self._scope.savepoints += 1
        name = f"tenantproof_{self._scope.savepoints}"
        await _run(self._connection, f"SAVEPOINT {name}".encode())
        try:
            yield
        except BaseException:
            back = f"ROLLBACK TO SAVEPOINT {name}".encode()
            await _run(self._connection, self._rules.verified(quoting(self._connection), self._scope, before=back))
            raise
        await _run(self._connection, f"RELEASE SAVEPOINT {name}".encode())


class AsyncTenantPool:
    """Connections of a role that can reach one tenant a transaction.

    `tenant_tables` names the tables that only a tenant scope may touch; default: every relation with a tenant
    column. `cross_tenant_dsn` logs in as the role for all_tenants(); without it there is no cross-tenant work.
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
        self._given = (dsn, cross_tenant_dsn, list(tenant_tables or ()), config)
        self._sizes = {"min_size": min_size, "max_size": max_size, "timeout": timeout}
        self._kwargs = {"autocommit": True, "prepare_threshold": None, "row_factory": row_factory}
        self._pool: AsyncConnectionPool[Any] | None = None
        self._cross: AsyncConnectionPool[Any] | None = None

    async def open(self) -> None:
        """Connects; `async with` does it. Raises TenantScopeError for a login that could get round row security."""
        dsn, cross, tables, config = self._given
        self._rules = await asyncio.to_thread(read_rules, dsn, tables, config)
        self._pool = self._made(dsn, self._rules.scoped_role, may_bypass=False)
        self._cross = self._made(cross, self._rules.service_role, may_bypass=True, min_size=0)
        for pool in filter(None, (self._pool, self._cross)):
            await pool.open()

    def _made(self, dsn: str, role: str, *, may_bypass: bool, **sizes: int) -> AsyncConnectionPool[Any] | None:
        async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
            async with AsyncExtendedCursor(connection, row_factory=tuple_row) as cursor:
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
                quote = quoting(connection)
                begin = self._rules.begin(quote, scope, request=request, read_only=read_only)
                scope.binding = await _run(connection, begin)
                yield AsyncTenantSession(connection, scope, self._rules)
                scope.alive = False
                await _run(connection, self._rules.verified(quote, scope, after=b"COMMIT"))
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
            rows = await _sent(connection, statement.text, arranged(statement, parameters))
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
                quote = quoting(connection)
                await _run(connection, self._rules.logged(quote, actor, why))
                await _run(connection, self._rules.cross_tenant(quote, actor))
                yield AsyncTenantSession(connection, scope, self._rules)
                scope.alive = False
                await _run(connection, b"COMMIT")
        finally:
            scope.alive = False

    def _of(self, pool: AsyncConnectionPool[Any] | None) -> AsyncConnectionPool[Any]:
        if pool is None:
            raise refused("this pool is not open, or has no such login", "use `async with`, and cross_tenant_dsn.")
        return pool

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


async def _sent(connection: psycopg.AsyncConnection[Any], text: str, parameters: Any) -> Rows:
    async with AsyncExtendedCursor(connection) as cursor:
        await cursor.execute(text.encode(), parameters or None)
        return rows_of(cursor, await cursor.fetchall() if cursor.description else [])


async def _run(connection: psycopg.AsyncConnection[Any], script: bytes) -> str:
    """Sends the client's own commands as one message; gives the last value, where there is one."""
    async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(script)
        while cursor.nextset():
            pass
        row = await cursor.fetchone() if cursor.description else None
        return str(row[0]) if row else ""
