"""The pool for asyncio keeps the same promises."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from pytest_tenantproof.client import AsyncTenantPool, TenantScopeError
from tests.client.conftest import CONFIG, Product


def run(product: Product, work: Callable[[AsyncTenantPool], Awaitable[None]], *, size: int = 1) -> None:
    async def main() -> None:
        pool = AsyncTenantPool(
            product.backend, cross_tenant_dsn=product.operator, config=CONFIG, max_size=size, timeout=10
        )
        async with pool:
            await work(pool)

    asyncio.run(main())


def test_one_tenant_alone_on_a_connection_that_others_use(product: Product) -> None:
    async def work(pool: AsyncTenantPool) -> None:
        for tenant in (product.one, product.other, product.one):
            async with pool.tenant(tenant, actor="user:1") as db:
                assert await db.execute("SELECT DISTINCT tenant_id::text FROM messages") == [(tenant,)]
                assert await db.executemany("UPDATE units SET label = label WHERE label = %s", [["x"], ["y"]]) == 0
                with pytest.raises(psycopg.errors.DivisionByZero):
                    async with db.savepoint():
                        await db.execute("SELECT 1 / %s", [0])
                async with db.savepoint():
                    pass
        with pytest.raises(TenantScopeError, match="has ended"):
            await db.execute("SELECT 1")
        assert await pool.execute("SELECT current_setting('request.jwt.claims', true)") == [("",)]

    run(product, work)


def test_concurrent_tasks_do_not_mix(product: Product) -> None:
    async def work(pool: AsyncTenantPool) -> None:
        async def one(tenant: str) -> None:
            for _ in range(10):
                async with pool.tenant(tenant, actor="user:1") as db:
                    await asyncio.sleep(0)
                    assert await db.execute("SELECT DISTINCT tenant_id::text FROM units") == [(tenant,)]

        await asyncio.gather(*(one(t) for t in (product.one, product.other) * 3))

    run(product, work, size=3)


def test_refusals(product: Product) -> None:
    async def work(pool: AsyncTenantPool) -> None:
        with pytest.raises(TenantScopeError, match="outside a tenant scope"):
            await pool.execute("SELECT * FROM messages")
        with pytest.raises(TenantScopeError, match="malformed"):
            async with pool.tenant("x", actor="user:1"):
                pytest.fail("a scope was opened")
        async with pool.tenant(product.one, actor="user:1") as db:
            for statement in (
                "COMMIT",
                "SET ROLE postgres",
                "SELECT 1; SELECT 2",
                "SELECT set_config('a.b', 'c', true)",
            ):
                with pytest.raises(TenantScopeError):
                    await db.execute(statement)

            async def nested() -> None:
                async with pool.tenant(product.other, actor="user:1"):
                    pytest.fail("nested")

            with pytest.raises(TenantScopeError, match="inside another"):
                await asyncio.create_task(nested())

    run(product, work)


def test_a_change_is_caught_before_commit(product: Product) -> None:
    async def changed(pool: AsyncTenantPool) -> None:
        async with pool.tenant(product.one, actor="user:1") as db:
            await db._begun()
            await db._connection.execute("SELECT set_config('app.binding', '', true)")

    async def work(pool: AsyncTenantPool) -> None:
        with pytest.raises(psycopg.DatabaseError, match="changed after it was bound"):
            await changed(pool)

    run(product, work)


def test_all_tenants(product: Product) -> None:
    async def work(pool: AsyncTenantPool) -> None:
        async with pool.all_tenants(reason="nightly billing", actor="system:billing") as db:
            assert await db.execute("SELECT count(DISTINCT tenant_id) FROM units") == [(4,)]
        assert product.sql("SELECT count(*) > 0 FROM tenantproof.cross_tenant_log") == [(True,)]

    run(product, work)


def test_unfit_sessions_and_closed_pools_are_refused(product: Product) -> None:
    async def opened(dsn: str) -> None:
        async with AsyncTenantPool(dsn, config=CONFIG):
            pytest.fail("opened")

    async def closed() -> None:
        async with AsyncTenantPool(product.backend, config=CONFIG).tenant(product.one, actor="a"):
            pytest.fail("never opened")

    with pytest.raises(TenantScopeError, match="superuser"):
        asyncio.run(opened(product.admin))
    with pytest.raises(TenantScopeError, match="not open"):
        asyncio.run(closed())
