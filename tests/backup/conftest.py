"""Fixtures of this room: a seeded database a session, and a scene a test."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.target import embedded
from tests.backup.support import Scene, local, seed
from tests.support import create_database


@pytest.fixture(scope="session")
def seeded(postgres: embedded.EmbeddedPostgres) -> str:
    """A database that tests only read."""
    dsn = create_database(postgres)
    seed(dsn)
    return dsn


@pytest.fixture
def scene(seeded: str, tmp_path: Path) -> Scene:
    return Scene(seeded, local(tmp_path), local(tmp_path))


@pytest.fixture
def superuser(seeded: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with psycopg.connect(seeded, autocommit=True) as connection:
        yield connection
