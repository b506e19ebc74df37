"""A restore into the target's own database, by a role that may make and rename none."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pytest_tenantproof.backup.restore import empty
from pytest_tenantproof.backup.restore import run as restore_run
from pytest_tenantproof.backup.restore.place import COPY_MARK, UNFINISHED
from pytest_tenantproof.errors import RestoreError, TargetUnfit
from pytest_tenantproof.target import EmbeddedPostgres, open_session
from tests.backup.support import Scene, local, seed
from tests.restore.support import MORE, Stage, content
from tests.support import create_database

HOST = """
CREATE ROLE owner_{n} NOLOGIN;
CREATE ROLE reader_{n} NOLOGIN;
"""
OLD = """
CREATE SCHEMA tenantproof; CREATE TABLE tenantproof.environment(environment text);
INSERT INTO tenantproof.environment VALUES ('staging');
CREATE TABLE before_it(id int PRIMARY KEY); CREATE VIEW v AS SELECT * FROM before_it;
CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN d AS int; CREATE FUNCTION f(mood) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE SEQUENCE counter; CREATE SCHEMA "Old One"; CREATE TABLE "Old One".t(id int REFERENCES before_it);
ALTER DEFAULT PRIVILEGES FOR ROLE owner_9 IN SCHEMA public GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE owner_9 GRANT SELECT ON TABLES TO PUBLIC;
"""
PLATFORM = "CREATE SCHEMA platform; CREATE TABLE platform.users(id serial); CREATE EXTENSION citext SCHEMA platform"


@pytest.fixture(scope="module")
def owned(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, str]:
    """A backup of a product whose objects belong to an ordinary role."""
    dsn = create_database(postgres)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(HOST.format(n=9).encode())
        admin.execute("GRANT CREATE, USAGE ON SCHEMA public TO owner_9")
    by_owner = make_conninfo(dsn, options="-c role=owner_9")
    seed(by_owner)
    with psycopg.connect(by_owner, autocommit=True) as connection:
        connection.execute(MORE.replace("CREATE ROLE reader_{n} NOLOGIN;", "").format(n=9).encode())
    folder: Path = tmp_path_factory.mktemp("backups")
    scene = Scene(dsn, local(folder), local(folder))
    return scene, scene.run().run


@pytest.fixture
def managed(owned: tuple[Scene, str], other_server: EmbeddedPostgres) -> Iterator[Stage]:
    """A staging database, and a role that owns it and little else."""
    scene, run = owned
    with psycopg.connect(other_server.dsn(), autocommit=True) as admin:
        admin.execute(HOST.format(n=9).encode())
        admin.execute("CREATE ROLE keeper LOGIN BYPASSRLS; GRANT owner_9 TO keeper")
        admin.execute("CREATE DATABASE managed OWNER keeper")
    with psycopg.connect(other_server.dsn("managed"), autocommit=True) as admin:
        admin.execute(PLATFORM)
        admin.execute("SET ROLE keeper; GRANT CREATE ON SCHEMA public TO owner_9")
        admin.execute(OLD.encode())
    yield Stage(scene, run, other_server, "managed")
    with psycopg.connect(other_server.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE managed WITH (FORCE)")
        admin.execute("DROP ROLE keeper; DROP ROLE owner_9; DROP ROLE reader_9")


def own(stage: Stage) -> str:
    return stage.server.dsn("managed", user="keeper")


def described(stage: Stage) -> str:
    with psycopg.connect(stage.dsn) as connection:
        row = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'managed'"
        ).fetchone()
    return str(row and row[0])


def test_it_is_emptied_and_filled(managed: Stage) -> None:
    with pytest.raises(RestoreError, match="may not create a database"):
        managed.restore(dsn=own(managed))
    assert managed.restore(dsn=own(managed), in_place=True, dry_run=True).rebuilt is None
    assert "public.before_it" in content(managed.dsn)
    result = managed.restore(dsn=own(managed), in_place=True)
    there = content(managed.dsn)
    assert {name: there[name] for name in there if not name.startswith("platform.")} == content(managed.scene.dsn)
    assert "platform.users" in there
    assert described(managed).startswith(f"{COPY_MARK} of backup {result.manifest.run}")
    managed.restore(dsn=own(managed), in_place=True)


def test_a_failure_leaves_what_counts_for_nothing(managed: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(restore_run, "compare_rows", lambda *_, **__: ("public.messages: not the same",))
        with pytest.raises(RestoreError, match=r"was emptied .* nothing there counts as evidence"):
            managed.restore(dsn=own(managed), in_place=True)
    assert {name for name in content(managed.dsn) if not name.startswith("platform.")} == set()
    assert UNFINISHED in described(managed)
    with pytest.raises(TargetUnfit, match="left unfinished"):
        open_session(managed.dsn, "staging", "staging")
    managed.restore(dsn=own(managed), in_place=True)
    open_session(managed.dsn, "staging", "staging")[0].close()


def test_what_may_not_be_emptied_is_not_touched(managed: Stage) -> None:
    before = content(managed.dsn)
    with psycopg.connect(managed.dsn, autocommit=True) as admin:
        admin.execute("ALTER DATABASE managed OWNER TO postgres")
    with pytest.raises(RestoreError, match="does not own the database"):
        managed.restore(dsn=own(managed), in_place=True)
    assert content(managed.dsn) == before
    assert UNFINISHED not in described(managed)


def test_an_emptying_that_is_ended_changes_nothing(managed: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(managed.dsn)
    monkeypatch.setattr(empty, "_in_public", lambda _: iter([psycopg.sql.SQL("DROP TABLE nowhere").format()]))
    with pytest.raises(RestoreError, match="nothing was replaced: UndefinedTable"):
        managed.restore(dsn=own(managed), in_place=True)
    assert content(managed.dsn) == before
    assert UNFINISHED not in described(managed)


def test_the_guard_is_the_same(managed: Stage) -> None:
    before = content(managed.dsn)
    with pytest.raises(RestoreError, match="not marked restorable"):
        managed.restore(dsn=own(managed), in_place=True, target="closed")
    with psycopg.connect(managed.dsn, autocommit=True) as admin:
        admin.execute("UPDATE tenantproof.environment SET environment = 'production'")
    with pytest.raises(RestoreError, match="says it is production"):
        managed.restore(dsn=own(managed), in_place=True)
    with pytest.raises(RestoreError, match="the very one"):
        managed.restore(dsn=managed.scene.dsn, in_place=True)
    with psycopg.connect(managed.dsn, autocommit=True) as admin:
        admin.execute("UPDATE tenantproof.environment SET environment = 'staging'")
    assert content(managed.dsn) == before


STRANGERS = {
    "CREATE FUNCTION platform.f() RETURNS int LANGUAGE sql AS 'SELECT 2'": r"makes FUNCTION platform\.f",
    "CREATE TABLE platform.users(id int)": r"holds rows of platform\.users",
}


@pytest.mark.parametrize("made", STRANGERS)
def test_what_is_a_strangers_is_refused_before_anything_is_touched(managed: Stage, made: str) -> None:
    """Left as they are, definitions would be neither restored nor compared, and rows would be missing."""
    with psycopg.connect(managed.scene.dsn, autocommit=True) as source:
        source.execute(f"CREATE SCHEMA platform; {made}".encode())
    before = content(managed.dsn)
    try:
        run = managed.scene.run().run
    finally:
        with psycopg.connect(managed.scene.dsn, autocommit=True) as source:
            source.execute("DROP SCHEMA platform CASCADE")
    with pytest.raises(RestoreError, match=STRANGERS[made]):
        managed.restore(dsn=own(managed), in_place=True, run=run)
    assert content(managed.dsn) == before
