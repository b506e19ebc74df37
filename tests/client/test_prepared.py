"""With prepare=True statements stay on the connection; tenants, roles and bindings do not."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from pytest_tenantproof.client import AsyncTenantPool, TenantPool, TenantScopeError
from pytest_tenantproof.client.session import ExtendedCursor
from tests.client.conftest import CONFIG, Product, past

TENANTS = "SELECT DISTINCT tenant_id::text FROM units WHERE label <> %s"


@pytest.fixture
def prepared(product: Product) -> Iterator[TenantPool]:
    with TenantPool(product.backend, config=CONFIG, max_size=1, timeout=10, prepare=True) as pool:
        yield pool


def test_a_prepared_statement_sees_the_tenant_of_its_transaction(prepared: TenantPool, product: Product) -> None:
    for _ in range(8):
        for tenant in (product.one, product.other):
            with prepared.tenant(tenant, actor="user:1") as db:
                assert db.execute(TENANTS, ["x"]) == [(tenant,)]
                with pytest.raises(psycopg.errors.DivisionByZero), db.savepoint():
                    db.execute("SELECT 1 / 0")
                assert db.execute(TENANTS, ["x"]) == [(tenant,)]
    with prepared._pool.connection() as connection:  # type: ignore[union-attr]
        held = connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
        assert [row for row in held if "DISTINCT tenant_id" in row[0]], held
        with pytest.raises(psycopg.Error) as refused:
            connection.execute("EXECUTE _pg3_0('x')")
        assert refused.value.sqlstate == "42501", "before it becomes app_scoped, the login has no rights"


def test_one_command_a_message_holds_when_prepared(prepared: TenantPool, product: Product) -> None:
    for _ in range(7):
        with pytest.raises(psycopg.errors.SyntaxError), prepared.tenant(product.one, actor="user:1") as db:
            ExtendedCursor(past(db)).execute(b"SELECT 1; COMMIT", prepare=True)


def test_nobody_reads_the_statements_of_others(prepared: TenantPool, product: Product) -> None:
    with prepared.tenant(product.one, actor="user:1") as db, pytest.raises(TenantScopeError):
        db.execute("SELECT * FROM pg_prepared_statements")


def test_the_same_in_asyncio(product: Product) -> None:
    async def run() -> None:
        async with AsyncTenantPool(product.backend, config=CONFIG, max_size=1, prepare=True) as pool:
            for _ in range(8):
                for tenant in (product.one, product.other):
                    async with pool.tenant(tenant, actor="user:1") as db:
                        assert await db.execute(TENANTS, ["x"]) == [(tenant,)]

    asyncio.run(run())
