"""One database, one value: complete, deterministic, read by a fixed number of queries in one transaction."""

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.catalog import digest, from_json, read_snapshot, to_json
from pytest_tenantproof.errors import CatalogError


class Counting(psycopg.Connection[Any]):
    """Remembers what it was asked."""

    asked: list[str]

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        self.__dict__.setdefault("asked", []).append(str(query))
        return super().execute(query, params, **options)


def _many(dsn: str, tables: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            f"""
            CREATE TABLE parent (id int, tenant_id int, PRIMARY KEY (tenant_id, id));
            DO $$ BEGIN
                FOR n IN 1..{tables} LOOP
                    EXECUTE format('CREATE TABLE t%s (id int, tenant_id int DEFAULT 1, p int CHECK (p > 0), '
                        'PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, p) REFERENCES parent)', n);
                    EXECUTE format('CREATE POLICY p ON t%s USING (tenant_id = 1)', n);
                    EXECUTE format('GRANT SELECT, UPDATE (p) ON t%s TO pg_monitor', n);
                    EXECUTE format('CREATE VIEW v%s AS SELECT * FROM t%s', n, n);
                END LOOP;
            END $$;
            """.encode()
        )


@pytest.mark.parametrize("small", [10])
def test_the_number_of_queries_does_not_depend_on_the_size(new_database: Callable[[], str], small: int) -> None:
    counts = []
    for tables in (small, 300):
        dsn = new_database()
        _many(dsn, tables)
        with Counting.connect(dsn, autocommit=True) as connection:
            assert len(read_snapshot(connection).tables) >= 2 * tables
            counts.append(connection.asked)
    assert counts[0] == counts[1]
    assert len(counts[0]) < 30


def test_it_is_one_repeatable_read_transaction_that_only_reads(new_database: Callable[[], str]) -> None:
    with Counting.connect(new_database(), autocommit=True) as connection:
        read_snapshot(connection)
        assert "REPEATABLE READ, READ ONLY" in connection.asked[0]
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def test_changes_meanwhile_are_not_seen_halfway(new_database: Callable[[], str]) -> None:
    """A writer that swaps two names all the time: a snapshot has one state or the other, never a mixture."""
    dsn, stop = new_database(), threading.Event()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE a (x int); CREATE TABLE b (y int)")

    def swap() -> None:
        text = b"ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b"
        with psycopg.connect(dsn) as writer:
            while not stop.is_set():
                writer.execute(text)
                writer.commit()

    writer = threading.Thread(target=swap)
    writer.start()
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for _ in range(25):
                found = {t.name: t.columns[0].name for t in read_snapshot(connection).tables if t.schema == "public"}
                assert found in ({"public.a": "x", "public.b": "y"}, {"public.a": "y", "public.b": "x"})
    finally:
        stop.set()
        writer.join()


def test_the_same_database_gives_the_same_bytes(reference_database: str) -> None:
    texts = set()
    for options in (
        "",
        "-c search_path=app,public -c DateStyle=German -c TimeZone=Asia/Tokyo -c extra_float_digits=-5",
    ):
        with psycopg.connect(reference_database, autocommit=True, options=options) as connection:
            snapshot = read_snapshot(connection)
            texts.add(to_json(snapshot))
            assert digest(snapshot) == hashlib.sha256(to_json(snapshot)).hexdigest()
    assert len(texts) == 1
    assert next(iter(texts)).isascii()


def test_a_copy_differs_in_nothing(new_database: Callable[[], str]) -> None:
    """Object ids, sizes and counts differ between two databases made alike; the snapshot does not."""
    found = []
    for extra in ("", "CREATE TABLE gone (x int); DROP TABLE gone; "):
        dsn = new_database()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                f"{extra}CREATE SCHEMA s; CREATE TABLE s.t (id serial PRIMARY KEY, b text DEFAULT 'x')".encode()
            )
            connection.execute(b"INSERT INTO s.t (b) SELECT 'y' FROM generate_series(1, 100)" if extra else b"SELECT 1")
            connection.execute("ANALYZE")
            found.append(to_json(read_snapshot(connection)))
    assert found[0] == found[1]


@pytest.mark.parametrize("which", ["reference_database", "faults_database"])
def test_json_and_back_is_the_same_value(which: str, request: pytest.FixtureRequest) -> None:
    with psycopg.connect(request.getfixturevalue(which), autocommit=True) as connection:
        snapshot = read_snapshot(connection)
    text = to_json(snapshot)
    assert from_json(text) == snapshot
    assert to_json(from_json(text)) == text
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode() == text


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"major": "18"}', b'{"major": 18, "surplus": 1}', b"\xff"])
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(CatalogError, match="not a catalog snapshot"):
        from_json(data)


CHANGES = [
    "ALTER TABLE public.units NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE public.units ALTER COLUMN label SET DEFAULT 'x'",
    "ALTER TABLE public.units ALTER CONSTRAINT units_development_fk DEFERRABLE",
    "ALTER TABLE public.units DISABLE TRIGGER refuse_tenant_change",
    "ALTER POLICY tenant_isolation ON public.units USING (true)",
    "GRANT SELECT (label) ON public.units TO anon",
    "ALTER ROLE anon BYPASSRLS",
    "GRANT service_role TO authenticated",
    "ALTER ROLE anon SET row_security = off",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO anon",
    "CREATE OR REPLACE FUNCTION app.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE AS 'SELECT NULL::uuid'",
    "ALTER FUNCTION app.current_tenant_id() SECURITY DEFINER",
    "ALTER VIEW public.message_overview RESET (security_invoker)",
    "CREATE PUBLICATION p FOR TABLE public.units",
    "CREATE INDEX extra ON public.units (label) WHERE label <> ''",
    "CREATE EXTENSION pg_trgm",
    "CREATE RULE r AS ON DELETE TO public.units DO INSTEAD NOTHING",
    "SELECT lo_create(4242)",
    "GRANT SET ON PARAMETER session_replication_role TO anon",
    "GRANT USAGE ON SCHEMA app TO anon",
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_isolation_depends_on_is_in_it(reference_database: str, change: str) -> None:
    with psycopg.connect(reference_database) as connection:
        before = digest(read_snapshot(connection))
        connection.execute(change.encode())
        assert digest(read_snapshot(connection)) != before
        connection.rollback()
        assert digest(read_snapshot(connection)) == before
