"""Real servers for the tests: one embedded Postgres 18 a worker, and the other majors on demand."""

import itertools
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from pytest_tenantproof.target import embedded

_count = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded.EmbeddedPostgres]:
    """One server for this worker; the major that the product ships for."""
    with embedded.start(embedded.find_bin(18)) as server:
        yield server


def create_database(server: embedded.EmbeddedPostgres, template: str = "template1") -> str:
    """Creates an empty database (a copy of `template`) and returns its DSN."""
    name = f"t{next(_count)}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return server.dsn(name)


@pytest.fixture
def new_database(postgres: embedded.EmbeddedPostgres) -> Callable[[], str]:
    """Makes a fresh database on the worker's server and returns its DSN. Roles are shared in the cluster."""
    return lambda: create_database(postgres)
