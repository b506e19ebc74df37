"""Tenants of every type: a value that is written in two ways is two tenants, and no row is lost or another's."""

from collections.abc import Callable

import psycopg
import pytest

from pytest_tenantproof.backup import counts, open_store
from tests.backup.support import Scene, contents

CITEXT = "CREATE SCHEMA more; CREATE EXTENSION citext SCHEMA more"
CASES = {
    "numeric": ("", "numeric", ("1.0", "1.00", "2", "NaN")),
    "float8": ("", "float8", ("0", "-0", "NaN", "1.5")),
    "interval": ("", "interval", ("1 day", "24:00:00")),
    "jsonb": ("", "jsonb", ("1.0", "1.00")),
    "citext": (CITEXT, "more.citext", ("A", "a", "b")),
    "array": ("", "int[]", ("{1}", "{2,3}", "{NULL}")),
    "composite": ("CREATE TYPE pair AS (x int, y text)", "pair", ("(1,)", "(,)", "(2,b)")),
    "enum": ("CREATE TYPE kind AS ENUM ('b', 'a')", "kind", ("a", "b")),
    "domain": ("CREATE DOMAIN short AS numeric; CREATE DOMAIN shorter AS short", "shorter", ("1", "1.0")),
    "varchar": ("", "varchar(9)", ("", "a\tb", "\\N")),
}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_each_text_has_its_rows(
    scene: Scene, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch, case: str, large: bool
) -> None:
    if large:
        monkeypatch.setattr(counts, "_LARGE", 0)
        monkeypatch.setattr(counts, "_SAMPLE", 8192)
        monkeypatch.setattr(counts, "_AS_QUICK", 1 << 40)
    before, type_, texts = CASES[case]
    scene.dsn = new_database()
    with psycopg.connect(scene.dsn) as connection:
        connection.execute(before.encode())
        connection.execute(f"CREATE TABLE parents(tenant_id {type_}, id int PRIMARY KEY)".encode())
        connection.execute("CREATE TABLE children(id int, parent int REFERENCES parents)")
        connection.execute("CREATE INDEX ON parents(tenant_id); CREATE INDEX ON children(parent)")
        for number, text in enumerate((*texts, None)):
            row = f"SELECT %s::text::{type_}, {number} * 100 + i FROM generate_series(1, 20) i"
            connection.execute(f"INSERT INTO parents {row}".encode(), [text])
        connection.execute("INSERT INTO children SELECT -id, id FROM parents")
    run = scene.run().run
    found = contents(open_store(scene.store), scene, run)
    for table in ("public.parents", "public.children"):
        held = {tenant: plain.splitlines() for (tenant, name), plain in found.items() if name == table}
        assert {tenant: len(lines) for tenant, lines in held.items()} == dict.fromkeys((*texts, None), 20)
        assert all(len({int(line.split()[-1]) // 100 for line in lines}) == 1 for lines in held.values())


def test_a_partition_that_is_half_detached_is_a_table_of_its_own(scene: Scene, new_database: Callable[[], str]) -> None:
    scene.dsn = new_database()
    with psycopg.connect(scene.dsn, autocommit=True) as connection, psycopg.connect(scene.dsn) as reader:
        connection.execute("CREATE TABLE notes(tenant_id int, at int) PARTITION BY RANGE (at)")
        connection.execute("CREATE TABLE notes_old PARTITION OF notes FOR VALUES FROM (0) TO (10)")
        connection.execute("INSERT INTO notes SELECT 7, i FROM generate_series(1, 9) i")
        reader.execute("SELECT FROM notes")
        connection.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connection.execute("ALTER TABLE notes DETACH PARTITION notes_old CONCURRENTLY")
    rows = {table.name: table.rows for table in scene.run().manifest.tables}
    assert rows == {"public.notes": 0, "public.notes_old": 9}
