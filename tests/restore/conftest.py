"""A source with a backup, and a second server with a staging database to replace."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start
from tests.backup.support import Scene, local, seed
from tests.restore.support import MORE, Stage
from tests.support import create_database


@pytest.fixture(scope="session")
def other_server() -> Iterator[EmbeddedPostgres]:
    with start(find_bin(18)) as server:
        yield server


@pytest.fixture(scope="session")
def backed_up(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, str]:
    dsn = create_database(postgres)
    seed(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(MORE.format(n=1).encode())
    folder: Path = tmp_path_factory.mktemp("backups")
    scene = Scene(dsn, local(folder), local(folder))
    return scene, scene.run().run


@pytest.fixture
def stage(backed_up: tuple[Scene, str], other_server: EmbeddedPostgres) -> Iterator[Stage]:
    """The staging database holds something of its own, marked as staging."""
    scene, run = backed_up
    made = Stage(scene, run, other_server)
    with psycopg.connect(other_server.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS staging WITH (FORCE)")
        admin.execute("CREATE DATABASE staging")
    with psycopg.connect(made.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE before_it(id int); INSERT INTO before_it VALUES (1)")
        connection.execute("CREATE SCHEMA tenantproof; CREATE TABLE tenantproof.environment(environment text)")
        connection.execute("INSERT INTO tenantproof.environment VALUES ('staging')")
    yield made
    with psycopg.connect(other_server.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS staging WITH (FORCE)")
