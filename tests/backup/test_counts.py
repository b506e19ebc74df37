"""Tenants of a large table are found by walking an index, and no row is lost where their numbers are estimates."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.backup import BackupFailed, counts, find_runs, open_store
from pytest_tenantproof.backup.counts import Counted, count_by_tenant
from pytest_tenantproof.backup.plan import read_plan
from pytest_tenantproof.backup.snapshot import begin
from pytest_tenantproof.config import Settings
from tests.backup.support import Scene

ROWS = """
INSERT INTO messages SELECT i, (i % 40)::text::{type}, repeat('x', 100) FROM generate_series(1, 2000) i;
INSERT INTO messages VALUES (2001, '77', 'the only one'), (2002, NULL, 'nobody''s');
"""
FOUND: dict[str | None, int] = {**dict.fromkeys(map(str, range(40)), 50), "77": 1, None: 1}


@pytest.fixture(autouse=True)
def every_table_counts_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "_LARGE", 0)
    monkeypatch.setattr(counts, "_SAMPLE", 8192)
    monkeypatch.setattr(counts, "_AS_QUICK", 1 << 40)


@pytest.fixture
def made(new_database: Callable[[], str]) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    opened = []

    def make(index: str, type_: str = "int", more: str = "") -> psycopg.Connection[Any]:
        connection = psycopg.connect(new_database(), autocommit=True)
        opened.append(connection)
        connection.execute(f"CREATE TABLE messages(id int, tenant_id {type_}, body text) {more}".encode())
        if more:
            connection.execute("CREATE TABLE messages_1 PARTITION OF messages FOR VALUES FROM (0) TO (1000)")
            connection.execute("CREATE TABLE messages_2 PARTITION OF messages DEFAULT")
        connection.execute(f"CREATE INDEX found ON messages {index}".encode())
        connection.execute(ROWS.format(type=type_).encode())
        return connection

    yield make
    for connection in opened:
        connection.close()


def counted(connection: psycopg.Connection[Any]) -> Counted:
    begin(connection)
    (table,) = read_plan(connection, Settings()).tables
    return count_by_tenant(connection, table)


@pytest.mark.parametrize(
    ("index", "type_", "more"),
    [
        ("(tenant_id, id)", "int", ""),
        ("(tenant_id DESC)", "bigint", ""),
        ("(tenant_id)", "text", ""),
        ("(tenant_id)", "varchar(9)", ""),
        ("(tenant_id)", "numeric(9)", ""),
        ("(tenant_id)", 'text COLLATE "C"', ""),
        ("(tenant_id)", "int", "PARTITION BY RANGE (id)"),
    ],
)
def test_an_index_tells_every_tenant(
    made: Callable[..., psycopg.Connection[Any]], index: str, type_: str, more: str
) -> None:
    connection = made(index, type_.partition(" COLLATE")[0], more)
    if "COLLATE" in type_:
        connection.execute(f"ALTER TABLE messages ALTER tenant_id TYPE {type_}".encode())
    found = counted(connection)
    assert not found.exact
    assert found.rows.keys() == FOUND.keys()
    assert all(rows > 0 for rows in found.rows.values())


@pytest.mark.parametrize(
    ("index", "type_"),
    [
        ("(tenant_id) WHERE id > 5", "int"),
        ("(tenant_id DESC NULLS LAST)", "int"),
        ("(id, tenant_id)", "int"),
        ("(tenant_id)", "numeric"),
        ("((tenant_id + 0))", "int"),
        ("USING hash (tenant_id)", "int"),
        ("USING brin (tenant_id)", "int"),
        ('(tenant_id COLLATE "C")', "text"),
        ("(tenant_id text_pattern_ops)", "text"),
    ],
)
def test_what_an_index_cannot_tell_in_order_is_counted(
    made: Callable[..., psycopg.Connection[Any]], index: str, type_: str
) -> None:
    assert counted(made(index, type_)) == Counted(FOUND)


def test_more_tenants_than_are_walked_are_counted(
    made: Callable[..., psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = made("(tenant_id)")
    monkeypatch.setattr(counts, "_TENANTS", 41)
    assert counted(connection).exact
    connection.execute("ROLLBACK")
    monkeypatch.setattr(counts, "_TENANTS", 42)
    assert not counted(connection).exact


def test_each_partition_makes_a_look_up_longer(
    made: Callable[..., psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = made("(tenant_id)", more="PARTITION BY RANGE (id)")
    begin(connection)
    (table,) = read_plan(connection, Settings()).tables
    assert table.partitions == 2
    monkeypatch.setattr(counts, "_AS_QUICK", 41.9 * 2 * (1 << 20) / table.heap)
    assert count_by_tenant(connection, table) == Counted(FOUND)
    monkeypatch.setattr(counts, "_AS_QUICK", 42.1 * 2 * (1 << 20) / table.heap)
    assert not count_by_tenant(connection, table).exact


def test_what_is_kept_beside_a_small_table_does_not_make_it_large(
    made: Callable[..., psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = made("(tenant_id)")
    connection.execute("ALTER TABLE messages ALTER body SET STORAGE EXTERNAL")
    connection.execute("INSERT INTO messages VALUES (2003, '77', repeat('x', 4000000))")
    begin(connection)
    (table,) = read_plan(connection, Settings()).tables
    assert table.heap < 1 << 20 < table.size
    monkeypatch.setattr(counts, "_LARGE", 1 << 20)
    assert count_by_tenant(connection, table) == Counted({**FOUND, "77": 2})


@pytest.mark.parametrize("workers", [0, 2])
def test_estimates_are_not_in_the_manifest(
    scene: Scene, made: Callable[..., psycopg.Connection[Any]], workers: int
) -> None:
    scene.dsn = made("(tenant_id)").info.dsn
    manifest = scene.run().manifest
    segments = {a.tenant: s.rows for a in manifest.archives if (s := a.segment("public.messages"))}
    assert segments == FOUND
    assert manifest.table("public.messages").rows == 2002


@pytest.mark.parametrize("lost", ["rows of a tenant", "a whole tenant"])
def test_rows_that_a_broken_index_lacks_make_a_backup_fail(
    scene: Scene, made: Callable[..., psycopg.Connection[Any]], lost: str
) -> None:
    connection = made("(tenant_id)")
    ready = "UPDATE pg_catalog.pg_index SET indisready = {} WHERE indexrelid = 'found'::regclass"
    connection.execute(ready.format("false").encode())
    connection.execute("INSERT INTO messages VALUES (3000, %s, 'lost')", ["7" if lost == "rows of a tenant" else "99"])
    connection.execute(ready.format("true").encode())
    scene.dsn = connection.info.dsn
    with pytest.raises(BackupFailed, match="gave 2002 rows where 2003 were counted") as caught:
        scene.run()
    assert "amcheck" in caught.value.remedy
    assert not any(run.complete for run in find_runs(open_store(scene.store)))
