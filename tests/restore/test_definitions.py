"""A restored database is built as the backed-up one was, object by object, on every version of the server."""

import contextlib
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.backup.restore import open_source, rebuild
from pytest_tenantproof.backup.restore import run as restore_run
from pytest_tenantproof.backup.restore.build import create_roles, finish_schema, missing_roles
from pytest_tenantproof.backup.restore.dump import SchemaDump
from pytest_tenantproof.backup.store import open_store
from pytest_tenantproof.errors import RestoreError
from pytest_tenantproof.target import find_bin, start
from tests.backup.support import Scene, local, seed
from tests.restore.support import MORE, Stage, content
from tests.support import create_database


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER TABLE units NO FORCE ROW LEVEL SECURITY", "public.units: table: row_security_forced"),
        ("ALTER POLICY own ON units USING (true)", "public.units own: policy: using"),
        ("ALTER TABLE messages ENABLE TRIGGER log_it", "public.messages log_it: trigger"),
        ("CREATE OR REPLACE VIEW busy AS SELECT id, slug, 1::bigint AS count FROM tenants", "public.busy: view"),
        ("GRANT SELECT ON notes TO PUBLIC", "public.notes to PUBLIC: grants is not declared"),
        ("ALTER TABLE plans DROP CONSTRAINT plans_kind_check", "plans_kind_check: constraint is declared and missing"),
    ],
)
def test_a_definition_that_is_not_as_it_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, change: str, named: str
) -> None:
    before = content(stage.dsn)

    def altered(dsn: str, dump: SchemaDump, workers: int) -> None:
        finish_schema(dsn, dump, workers)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(change.encode())

    monkeypatch.setattr(restore_run, "finish_schema", altered)
    with pytest.raises(RestoreError, match="not what was backed up") as caught:
        stage.restore()
    assert named in str(caught.value)
    assert content(stage.dsn) == before


@pytest.mark.parametrize(("major", "onto"), [(15, 15), (16, 16), (17, 17), (15, 18)])
def test_every_version_of_the_server(tmp_path: Path, major: int, onto: int) -> None:
    """Definitions are judged on the major version that they come from, and told on a later one. 18: all other tests."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start(find_bin(major)))
        other = server if onto == major else stack.enter_context(start(find_bin(onto)))
        dsn, made = create_database(server), create_database(other)
        seed(dsn, tenants=3, messages=5)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(MORE.format(n=2).encode())
        scene = Scene(dsn, local(tmp_path), local(tmp_path))
        store = open_store(scene.store)
        source = open_source(store, store, scene.run().run, scene.keys, scene.reader)
        with psycopg.connect(made, autocommit=True) as connection:
            create_roles(connection, missing_roles(connection, source.manifest))
        rebuilt = rebuild(made, source, scene.request().settings)
        assert content(made) == content(dsn)
        assert rebuilt.rows == source.manifest.rows()
        assert [line.partition(":")[0] for line in rebuilt.definitions] == (["public.sizes"] if onto != major else [])
