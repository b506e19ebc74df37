"""A database with one table for each policy of cases.py."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import psycopg.conninfo
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.config import Settings, settings_from
from pytest_tenantproof.policy import Prover, World
from pytest_tenantproof.target import find_bin, start
from tests.policy.cases import PROVEN, REFUSED

HERE = Path(__file__).parent
CONFIG = """
[tenantproof]
trusted_tenant_expressions = ["app.tenant()", "app.require_tenant()"]
membership_tables = ["public.members"]
global_tables = ["public.plans"]
child_tables = [{ table = "public.boards", column = "project_id" }]
"""
TABLE = """CREATE TABLE {t} (id uuid PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, project_id uuid NOT NULL,
 user_id uuid, shared_tenant uuid, label text, archived boolean NOT NULL, tags text[],
 FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id));
ALTER TABLE {t} ENABLE ROW LEVEL SECURITY; ALTER TABLE {t} FORCE ROW LEVEL SECURITY;
"""


def policy_settings() -> Settings:
    return settings_from(CONFIG, source="test", root=HERE)


@dataclass(frozen=True)
class Proofs:
    catalog: Catalog
    prover: Prover

    def gaps(self, table: str, role: str = "authenticated") -> list[str]:
        found = self.prover.gaps(self.catalog.tables[f"public.{table}"], role)
        return [f"{g.command} {g.clause} {g.policy}: {g.reason}: {g.expression}" for g in found]


def proofs(dsn: str) -> Proofs:
    with psycopg.connect(dsn, autocommit=True) as connection:
        snapshot = read_snapshot(connection)
    settings = policy_settings()
    return Proofs(Catalog(snapshot, settings), Prover(World(snapshot, settings)))


@pytest.fixture(scope="session")
def policy_server() -> Iterator[str]:
    """A server of its own with schema.sql. Change it inside a rollback, or by tables of your own."""
    with start(find_bin(18)) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE plain")
        with psycopg.connect(server.dsn("plain"), autocommit=True) as connection:
            connection.execute((HERE / "schema.sql").read_bytes())
        yield server.dsn("plain")


@pytest.fixture(scope="session")
def listed(policy_server: str) -> Proofs:
    """Tables p0.. for PROVEN and r0.. for REFUSED."""
    with psycopg.connect(policy_server, dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE listed TEMPLATE plain")
    dsn = psycopg.conninfo.make_conninfo(policy_server, dbname="listed")
    with psycopg.connect(dsn, autocommit=True) as connection:
        for prefix, texts in (("p", PROVEN), ("r", REFUSED)):
            for number, text in enumerate(texts):
                name = f"{prefix}{number}"
                policy = f"CREATE POLICY one ON {name} TO authenticated USING ({text.replace('{t}', name)})"
                connection.execute((TABLE.format(t=name) + policy).encode())
    return proofs(dsn)
