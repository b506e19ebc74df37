"""A clone has everything of the target's catalog that isolation depends on."""

import dataclasses
from collections.abc import Callable

import psycopg
import pytest

from pytest_tenantproof.catalog import Snapshot, read_snapshot
from pytest_tenantproof.catalog.compare import differences
from pytest_tenantproof.catalog.model import Extension, Function
from pytest_tenantproof.prove.clone import rebuild
from pytest_tenantproof.target import find_bin, start

ODD = """
CREATE SCHEMA "Odd schema";
CREATE ROLE "odd role" NOLOGIN; CREATE ROLE odd_member NOLOGIN IN ROLE "odd role";
CREATE TYPE "Odd schema".mood AS ENUM ('it''s fine', 'bad');
CREATE TYPE "Odd schema".pair AS (a int, "B c" text);
CREATE DOMAIN "Odd schema".code AS text NOT NULL DEFAULT 'x' CHECK (VALUE ~ '^[a-z]+$') CHECK (length(VALUE) < 9);
CREATE FUNCTION "Odd schema".twice(int, b int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * b';
CREATE TABLE "Odd schema"."T able" (
    tenant_id uuid NOT NULL, "Id" bigint GENERATED ALWAYS AS IDENTITY, n int DEFAULT "Odd schema".twice(2),
    doubled int GENERATED ALWAYS AS (n * 2) STORED, mood "Odd schema".mood, code "Odd schema".code,
    during tstzrange, pair "Odd schema".pair, PRIMARY KEY (tenant_id, "Id"), EXCLUDE USING gist (during WITH &&),
    CONSTRAINT "n is small" CHECK (n < 100) NOT VALID);
CREATE UNIQUE INDEX "partial" ON "Odd schema"."T able" (lower(code)) WHERE n > 1;
GRANT SELECT ("Id", n), UPDATE (n) ON "Odd schema"."T able" TO "odd role";
GRANT USAGE ON SCHEMA "Odd schema" TO "odd role" WITH GRANT OPTION;
CREATE TABLE "Odd schema".parts (tenant_id uuid NOT NULL, at date NOT NULL, ref bigint,
    FOREIGN KEY (tenant_id, ref) REFERENCES "Odd schema"."T able") PARTITION BY RANGE (at);
CREATE TABLE "Odd schema".parts_1 PARTITION OF "Odd schema".parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE "Odd schema".parts_rest PARTITION OF "Odd schema".parts DEFAULT;
CREATE TABLE "Odd schema".heir (extra text) INHERITS ("Odd schema"."T able");
CREATE FUNCTION "Odd schema".guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OF n ON "Odd schema"."T able" FOR EACH ROW
    WHEN (new.n > 3) EXECUTE FUNCTION "Odd schema".guard();
ALTER TABLE "Odd schema"."T able" ENABLE ALWAYS TRIGGER guard;
CREATE TRIGGER seen AFTER DELETE ON "Odd schema".parts REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION "Odd schema".guard('a', 'b');
ALTER TABLE "Odd schema"."T able" ENABLE ROW LEVEL SECURITY; ALTER TABLE "Odd schema"."T able" FORCE ROW LEVEL SECURITY;
CREATE POLICY "one policy" ON "Odd schema"."T able" AS RESTRICTIVE FOR UPDATE TO "odd role", PUBLIC
    USING (n > 1) WITH CHECK (n < 9);
CREATE VIEW "Odd schema".v WITH (security_invoker = true, security_barrier = true) AS SELECT * FROM "Odd schema".parts;
CREATE MATERIALIZED VIEW "Odd schema".m AS SELECT count(*) FROM "Odd schema".v;
CREATE RULE quiet AS ON DELETE TO "Odd schema".parts DO INSTEAD NOTHING;
CREATE FUNCTION "Odd schema".on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER odd_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION "Odd schema".on_ddl();
ALTER DEFAULT PRIVILEGES IN SCHEMA "Odd schema" GRANT SELECT ON TABLES TO "odd role";
CREATE PUBLICATION odd_news FOR TABLE "Odd schema"."T able" WHERE (n > 1);
ALTER ROLE "odd role" SET statement_timeout = '5s';
CREATE SEQUENCE "Odd schema".counter CACHE 5 CYCLE;
CREATE FUNCTION "Odd schema".definer(VARIADIC text[]) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER
    SET search_path = '' AS 'SELECT unnest($1)';
REVOKE EXECUTE ON FUNCTION "Odd schema".definer(text[]) FROM PUBLIC;
"""


def cloned(snapshot: Snapshot) -> tuple[Snapshot, tuple[str, ...]]:
    with start(find_bin(18)) as server, psycopg.connect(server.dsn(), autocommit=True) as connection:
        clone = rebuild(connection, snapshot)
        return read_snapshot(connection), clone.missing


def snapshot_of(dsn: str) -> Snapshot:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return read_snapshot(connection)


@pytest.mark.parametrize("name", ["reference_database", "faults_database"])
def test_a_clone_equals_its_original(name: str, request: pytest.FixtureRequest) -> None:
    original = snapshot_of(request.getfixturevalue(name))
    clone, missing = cloned(original)
    assert not missing
    schemas = tuple(s.name for s in original.schemas if s.name != "tenantproof")
    assert differences(original, clone, schemas, lambda role: role == "postgres") == []


def test_a_clone_of_an_odd_schema_equals_its_original() -> None:
    with start(find_bin(18)) as server, psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(ODD)
        original = read_snapshot(connection)
    clone, missing = cloned(original)
    assert not missing
    assert differences(original, clone, ('"Odd schema"',), lambda role: role == "postgres") == []


def test_what_cannot_be_rebuilt_is_named(new_database: Callable[[], str]) -> None:
    original = snapshot_of(new_database())
    absent = Extension("pg_net", "0.1", "net")
    call = Function(
        "net.http_get(text)", "net.http_get", "net", ("text",), "bigint", "c", "postgres", extension="pg_net"
    )
    functions = (*original.functions, call)
    with start(find_bin(18)) as server, psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA net")
        clone = rebuild(
            connection, dataclasses.replace(original, extensions=(*original.extensions, absent), functions=functions)
        )
    assert clone.stubbed == ("net.http_get(text)",)
    assert any("pg_net" in statement for statement in clone.missing)
