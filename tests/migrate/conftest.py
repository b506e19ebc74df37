"""The baseline product with a few rows of two tenants, and what a database is like as one value."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pytest_tenantproof.catalog import digest, read_snapshot
from pytest_tenantproof.migrate import migrations_folder
from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start
from tests.support import create_database

ROWS = """
INSERT INTO auth.users (id) VALUES (md5('u1')::uuid), (md5('u2')::uuid);
INSERT INTO public.tenants (id, slug, name) VALUES (md5('t1')::uuid, 'one', 'One'), (md5('t2')::uuid, 'two', 'Two');
INSERT INTO public.tenant_members (tenant_id, user_id)
VALUES (md5('t1')::uuid, md5('u1')::uuid), (md5('t2')::uuid, md5('u2')::uuid);
INSERT INTO public.developments (id, tenant_id, name)
VALUES (md5('d1')::uuid, md5('t1')::uuid, 'D'), (md5('d2')::uuid, md5('t2')::uuid, 'D');
INSERT INTO public.units (id, tenant_id, development_id, label)
VALUES (md5('n1')::uuid, md5('t1')::uuid, md5('d1')::uuid, 'L1'),
       (md5('n2')::uuid, md5('t2')::uuid, md5('d2')::uuid, 'L2');
INSERT INTO public.messages (id, tenant_id, development_id, unit_id, author, body)
VALUES (md5('m1')::uuid, md5('t1')::uuid, md5('d1')::uuid, md5('n1')::uuid, 'resident', 'first'),
       (md5('m2')::uuid, md5('t2')::uuid, md5('d2')::uuid, md5('n2')::uuid, 'manager', 'second');
"""
_TABLES = ("tenants", "developments", "units", "messages", "tenant_members", "onboarding_transactions")


@dataclass(frozen=True)
class Product:
    """A database that runs the unhardened product."""

    dsn: str

    def run(self, text: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(text.encode())

    def state(self) -> tuple[Any, ...]:
        """The catalog's digest (roles and grants included) and every row."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            read = digest(read_snapshot(connection))
            rows = [
                connection.execute(f"SELECT t::text FROM public.{name} t ORDER BY 1".encode()).fetchall()
                for name in _TABLES
            ]
            return (read, *rows)


def _baseline(product: Product) -> Product:
    product.run((migrations_folder() / "000_baseline.sql").read_text())
    product.run(ROWS)
    return product


@pytest.fixture(scope="session")
def baseline_template(postgres: EmbeddedPostgres) -> str:
    # Other folders' conftest.py import this fixture, and each has its own: no two may share a name.
    dsn = create_database(postgres)
    _baseline(Product(dsn))
    return str(conninfo_to_dict(dsn)["dbname"])


@pytest.fixture
def product(postgres: EmbeddedPostgres, baseline_template: str) -> Product:
    return Product(create_database(postgres, baseline_template))


@pytest.fixture(scope="module")
def untouched() -> Iterator[Product]:
    """The same on a server of its own, where not even a role has been made: for tests that must change nothing."""
    with start(find_bin(18)) as server:
        yield _baseline(Product(server.dsn()))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A migrations folder with the named shipped files, any of them changed by a function."""

    def make(*names: str, change: Callable[[str], str] = lambda text: text) -> Path:
        made = tmp_path / "migrations"
        made.mkdir(exist_ok=True)
        for path in sorted(migrations_folder().glob("*.sql")):
            if not names or path.name[:3] in names:
                (made / path.name).write_text(change(path.read_text()))
        return made

    return make
