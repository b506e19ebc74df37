"""The reference product as a back end meets it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pytest_tenantproof.client import TenantPool
from pytest_tenantproof.client.pool import TenantSession
from tests.support import REPOSITORY

CONFIG = REPOSITORY / "tenantproof.toml"


@dataclass(frozen=True)
class Product:
    """DSNs of the administrator, the back end and the operator, and ids of two tenants."""

    admin: str
    backend: str
    operator: str
    one: str
    other: str

    def sql(self, text: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def product(reference_database: str) -> Product:
    with psycopg.connect(reference_database, autocommit=True) as connection:
        connection.execute("CREATE ROLE app_operator LOGIN NOINHERIT; GRANT service_role TO app_operator")
        ids = [str(row[0]) for row in connection.execute("SELECT id FROM public.tenants ORDER BY slug LIMIT 2")]
    named = {name: make_conninfo(reference_database, user=name) for name in ("app_backend", "app_operator")}
    return Product(reference_database, named["app_backend"], named["app_operator"], *ids)


@pytest.fixture
def pool(product: Product) -> Iterator[TenantPool]:
    """One server connection: whatever a transaction leaves behind, the next one meets."""
    with TenantPool(
        product.backend, cross_tenant_dsn=product.operator, config=CONFIG, min_size=1, max_size=1, timeout=10
    ) as made:
        yield made


def past(db: TenantSession) -> psycopg.Connection[Any]:
    """The connection of a bound transaction, as code that goes round the client would have it."""
    db._begun()
    return cast("psycopg.Connection[Any]", db._connection)
