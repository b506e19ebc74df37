"""The hardened product with demo data, a copy for each test."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.audit import Seal, Tampered, compare, read_seals, seal
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start
from tests.support import create_database

TENANT = "00d74d45-6730-a8ab-ed4d-2027bc05435c"


@dataclass
class Log:
    """A database, and the seals of its audit log."""

    dsn: str
    folder: Path
    signer: Signer

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """In one session, one transaction each; gives the rows of the last."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for text in statements:
                cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def as_superuser(self, text: str) -> None:
        """What only somebody who may alter the log can do: with its guards off."""
        tables = self.run("SELECT relid::regclass::text FROM pg_partition_tree('public.audit_events')")
        off = [f"ALTER TABLE {name} DISABLE TRIGGER append_only" for (name,) in tables]
        self.run(*off, text)

    def seal(self, most: int = 100_000) -> list[Seal]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return seal(connection, self.folder, "prod", self.signer, {}, most)

    def tampered(self) -> list[Tampered]:
        chain = read_seals(self.folder, {self.signer.key_id: self.signer.public})
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return compare(connection, self.folder, chain)


@pytest.fixture(scope="session")
def audited() -> Iterator[EmbeddedPostgres]:
    with start(find_bin(18)) as server:
        apply(server.dsn(), migrations_folder())
        load_demo(server.dsn())
        with psycopg.connect(server.dsn("template1"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE product TEMPLATE postgres")
        yield server


@pytest.fixture
def log(audited: EmbeddedPostgres, tmp_path: Path) -> Log:
    return Log(create_database(audited, "product"), tmp_path / "seals", Signer(new_seed()))


@pytest.fixture(scope="session")
def log_shared(audited: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Log:
    """For tests in which everything is refused."""
    return Log(create_database(audited, "product"), tmp_path_factory.mktemp("seals"), Signer(new_seed()))
