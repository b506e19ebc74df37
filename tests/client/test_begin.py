"""The server's answer to BEGIN is read with the first statement: however a block goes, it is read, and believed."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from pytest_tenantproof.client import AsyncTenantPool, TenantPool
from pytest_tenantproof.client.pool import TenantSession
from tests.client.conftest import CONFIG, Product

TENANTS = "SELECT DISTINCT tenant_id::text FROM units"


def usable(pool: TenantPool, product: Product) -> None:
    with pool.tenant(product.other, actor="user:2") as db:
        assert db.execute(TENANTS) == [(product.other,)]


def test_a_block_without_a_statement(pool: TenantPool, product: Product) -> None:
    with pool.tenant(product.one, actor="user:1"):
        pass
    usable(pool, product)


def test_a_block_that_raises_before_its_first_statement(pool: TenantPool, product: Product) -> None:
    with pytest.raises(ZeroDivisionError), pool.tenant(product.one, actor="user:1"):
        _ = 1 / 0
    usable(pool, product)


def _execute(db: TenantSession) -> None:
    db.execute(TENANTS)


def _executemany(db: TenantSession) -> None:
    db.executemany("UPDATE units SET label = label WHERE label = %s", [["x"]])


def _savepoint(db: TenantSession) -> None:
    with db.savepoint():
        pytest.fail("the transaction was never bound")


@pytest.mark.parametrize("first", [_execute, _executemany, _savepoint, lambda db: None])
def test_a_binding_that_the_server_refuses(
    pool: TenantPool, product: Product, first: Callable[[TenantSession], None]
) -> None:
    rules = pool._rules
    pool._rules = replace(rules, scoped_role="app_operator")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), pool.tenant(product.one, actor="user:1") as db:
        first(db)
    pool._rules = rules
    usable(pool, product)


def test_a_savepoint_may_come_first(pool: TenantPool, product: Product) -> None:
    with pool.tenant(product.one, actor="user:1") as db:
        with pytest.raises(ZeroDivisionError), db.savepoint():
            _ = 1 / 0
        assert db.execute(TENANTS) == [(product.one,)]


def test_the_same_in_asyncio_and_when_it_is_cancelled(product: Product) -> None:
    async def work() -> None:
        async with AsyncTenantPool(product.backend, config=CONFIG, max_size=1, timeout=10) as pool:
            with pytest.raises(ZeroDivisionError):
                async with pool.tenant(product.one, actor="user:1"):
                    _ = 1 / 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), pool.tenant(product.one, actor="user:1"):
                    await asyncio.sleep(10)
            rules = pool._rules
            pool._rules = replace(rules, scoped_role="app_operator")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                async with pool.tenant(product.one, actor="user:1") as db:
                    await db.execute(TENANTS)
            pool._rules = rules
            async with pool.tenant(product.other, actor="user:2") as db:
                assert await db.execute(TENANTS) == [(product.other,)]

    asyncio.run(work())
