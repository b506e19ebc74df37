"""Statements that try to leave their scope: refused before they are sent, and by the database without the client."""

import psycopg
import pytest

from pytest_tenantproof.client import TenantPool, TenantScopeError
from pytest_tenantproof.client.session import ExtendedCursor
from tests.client.conftest import Product, past

CLAIMS = """SELECT set_config('request.jwt.claims', '{"app_metadata":{"tenant_id":"OTHER"}}', true)"""
REBIND = "SELECT tenantproof.bind_tenant('OTHER', 'user:1', '')"
REFUSED = [
    "SET ROLE postgres",
    "SET LOCAL ROLE NONE",
    "SET SESSION AUTHORIZATION postgres",
    "RESET ROLE",
    "RESET ALL",
    "SET app.binding = ''",
    "SET LOCAL search_path = evil",
    "SET TRANSACTION READ WRITE",
    "SHOW role",
    "DISCARD ALL",
    "BEGIN",
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "SAVEPOINT x",
    "ROLLBACK TO x",
    "PREPARE TRANSACTION 'x'",
    "SELECT 1; SELECT 2",
    "SELECT 1; COMMIT",
    "",
    ";",
    "-- nothing",
    "SELECT set_config('request.jwt.claims', '{}', true)",
    "SELECT pg_catalog.set_config('role', 'none', true)",
    "SELECT \"set_config\"('role', 'none', true)",
    "SELECT * FROM set_config('role', 'none', true)",
    "SELECT 1 WHERE EXISTS (SELECT FROM generate_series(1, 2) ORDER BY set_config('a.b', 'c', false))",
    "UPDATE units SET label = set_config('app.binding', '', true)",
    "INSERT INTO units (label) VALUES (set_config('app.binding', '', true))",
    "EXPLAIN ANALYZE SELECT set_config('app.binding', '', true)",
    "MERGE INTO units u USING units v ON u.id = v.id WHEN MATCHED THEN UPDATE SET label = set_config('a.b', '', true)",
    "SELECT tenantproof.bind_tenant(gen_random_uuid(), 'x', '')",
    "SELECT query_to_xml('SELECT set_config(''role'', ''none'', true)', true, true, '')",
    "SELECT * FROM dblink('dbname=x', 'SELECT 1') AS t(a int)",
    "SELECT pg_advisory_lock(1)",
    "SELECT lastval()",
    "SELECT setseed(0.5)",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_terminate_backend(pg_backend_pid())",
    "DO $$ BEGIN PERFORM set_config('role', 'none', true); END $$",
    "CALL something()",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "COPY messages TO STDOUT",
    "COPY messages FROM '/etc/passwd'",
    "COPY messages TO PROGRAM 'sh'",
    "LISTEN x",
    "NOTIFY x, 'rows'",
    "LOCK TABLE messages",
    "CREATE TEMP TABLE messages (id int)",
    "SELECT * INTO stolen FROM messages",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER ROLE app_scoped BYPASSRLS",
    "GRANT app_owner TO app_scoped",
    "TRUNCATE messages",
    "DROP TABLE messages",
    "LOAD 'evil'",
    "VACUUM",
    "UPDATE pg_catalog.pg_settings SET setting = 'none' WHERE name = 'role'",
    "UPDATE pg_settings SET setting = 'none' WHERE name = 'role'",
    "SELECT statement FROM pg_prepared_statements",
    "SELECT (SELECT max(query) FROM pg_catalog.pg_stat_activity)",
    "SELECT 'it''s \\' ; COMMIT; --'; SELECT 1",
    "this is not SQL",
    "SELECT $tag$ unfinished",
    "SELECT 1 \0; COMMIT",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_refused_before_it_is_sent(pool: TenantPool, product: Product, statement: str) -> None:
    with pool.tenant(product.one, actor="user:1") as db:
        with pytest.raises(TenantScopeError):
            db.execute(statement)
        # Had anything reached the server, the transaction would be another, aborted or gone.
        assert db.execute("SELECT DISTINCT tenant_id::text FROM units") == [(product.one,)]
    with pytest.raises(TenantScopeError):
        pool.execute(statement)


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("SELECT %s; COMMIT", [1]),
        ("SELECT %z", [1]),
        ("SELECT 100%", []),
        ("SELECT %s, %(a)s", [1]),
        ("SELECT %(s)", {"s": 1}),
        (b"SELECT 1", None),
        (None, None),
        ("SELECT %s -- %s", [1]),
        ("SELECT %s", "12"),
        ("SELECT %(a)s", [1]),
    ],
)
def test_placeholders_hide_nothing(pool: TenantPool, product: Product, query: object, parameters: object) -> None:
    refusals = (TenantScopeError, TypeError, psycopg.errors.UndefinedParameter)
    with pool.tenant(product.one, actor="user:1") as db, pytest.raises(refusals), db.savepoint():
        db.execute(query, parameters)  # type: ignore[arg-type]


def loose(pool: TenantPool, product: Product, *statements: str) -> str:
    """Runs statements as a client whose every check had failed would; what the database said, at which of them."""
    done = 0
    try:
        with pool.tenant(product.one, actor="user:1") as db:
            for statement in statements:
                ExtendedCursor(past(db)).execute(statement.encode())
                done += 1
    except psycopg.Error as error:
        return f"{done}: {error.diag.message_primary}"
    return "committed"


CHANGED = "the tenant or the role of this transaction was changed after it was bound"
LATE = "a tenant is bound by the message that begins the transaction, and once"
NOTHING = "permission denied for schema tenantproof"
UNBOUND = "the tenant or the actor of this transaction was not bound by bind_tenant()"


@pytest.mark.parametrize(
    ("statements", "answer"),
    [
        (["SELECT 1"], "committed"),
        (["SELECT 1; COMMIT"], "0: cannot insert multiple commands into a prepared statement"),
        (["SELECT set_config('app.binding', '', true)", "SELECT * FROM units"], f"1: {UNBOUND}"),
        ([CLAIMS, "SELECT * FROM units"], f"1: {UNBOUND}"),
        ([CLAIMS, "DELETE FROM units"], f"1: {UNBOUND}"),
        ([CLAIMS], f"1: {CHANGED}"),
        (["SAVEPOINT a", CLAIMS, "ROLLBACK TO a", "SELECT * FROM units"], "committed"),
        (
            ["SELECT set_config('app.binding', '', true)", REBIND],
            f"1: {LATE}",
        ),
        ([REBIND], f"0: {LATE}"),
        (["RESET ROLE", "SELECT * FROM units"], "1: permission denied for table units"),
        (["RESET ROLE"], f"1: {NOTHING}"),
        (["SET ROLE service_role"], '0: permission denied to set role "service_role"'),
        (["SET SESSION AUTHORIZATION postgres"], '0: permission denied to set session authorization "postgres"'),
        (["COMMIT", "SELECT * FROM units"], "1: permission denied for table units"),
        (["COMMIT"], f"1: {NOTHING}"),
        (
            ["ROLLBACK AND CHAIN", "SET LOCAL ROLE app_scoped", REBIND],
            f"2: {LATE}",
        ),
        (
            ["COMMIT", "BEGIN", "SET LOCAL ROLE app_scoped", REBIND],
            f"3: {LATE}",
        ),
        (["COMMIT", "SET ROLE app_scoped", REBIND, "SELECT * FROM units"], f"2: {LATE}"),
        (["SELECT * FROM tenantproof.binding_key"], "0: permission denied for table binding_key"),
        (["CREATE TEMP TABLE binding_key (key bytea)"], None),
        (["DO $$ BEGIN PERFORM set_config('app.binding', 'x', true); END $$", "SELECT * FROM units"], f"1: {UNBOUND}"),
        (["SET LOCAL search_path = pg_temp", "SELECT * FROM public.units"], "committed"),
        (
            ["SET LOCAL row_security = off", "SELECT * FROM units"],
            '1: query would be affected by row-level security policy for table "units"',
        ),
    ],
)
def test_the_database_holds_without_the_clients_checks(
    pool: TenantPool, product: Product, statements: list[str], answer: str | None
) -> None:
    rebound = [s.replace("OTHER", product.other) for s in statements]
    said = loose(pool, product, *rebound)
    assert said == answer if answer else said.startswith("0: permission denied to create temporary tables")
    with pool.tenant(product.other, actor="user:2") as db:
        assert db.execute("SELECT DISTINCT tenant_id::text FROM units") == [(product.other,)]


def test_a_seal_opens_one_transaction_of_one_process(pool: TenantPool, product: Product) -> None:
    with pool.tenant(product.other, actor="user:1") as db:
        held = db.execute("SELECT current_setting('request.jwt.claims'), current_setting('app.binding')")[0]
    replay = [
        f"SELECT set_config('{n}', '{v}', true)"
        for n, v in zip(("request.jwt.claims", "app.binding"), held, strict=True)
    ]
    assert loose(pool, product, *replay, "SELECT * FROM units") == f"2: {UNBOUND}"


def test_a_function_that_rebinds_is_caught_at_the_next_row_and_at_commit(pool: TenantPool, product: Product) -> None:
    product.sql(
        "CREATE FUNCTION public.sly(t text) RETURNS text LANGUAGE sql SET search_path = '' AS"
        " $$ SELECT set_config('request.jwt.claims', '{\"app_metadata\":{\"tenant_id\":\"' || t || '\"}}', true) $$"
    )
    sly = f"SELECT public.sly('{product.other}')"

    def scoped(*statements: str) -> None:
        with pool.tenant(product.one, actor="user:1") as db:
            for statement in statements:
                db.execute(statement)

    try:
        with pytest.raises(psycopg.DatabaseError, match="was not bound by"):
            scoped(sly, "SELECT * FROM units")
        with pytest.raises(psycopg.DatabaseError, match="was not bound by"):
            scoped(f"SELECT * FROM units, LATERAL ({sly}) s UNION ALL SELECT *, '' FROM units WHERE label <> ''", sly)
        with pytest.raises(psycopg.DatabaseError, match="changed after it was bound"):
            scoped(sly)
    finally:
        product.sql("DROP FUNCTION public.sly(text)")


def test_a_savepoint_rolls_back_alone_and_verifies(pool: TenantPool, product: Product) -> None:
    with pool.tenant(product.one, actor="user:1") as db:
        with db.savepoint():
            db.execute("SELECT 1")
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero), db.savepoint():
                db.execute("SELECT 1 / 0")
        assert db.execute("SELECT DISTINCT tenant_id::text FROM units") == [(product.one,)]

    def changed_before_it() -> None:
        with pool.tenant(product.one, actor="user:1") as db:
            ExtendedCursor(past(db)).execute(CLAIMS.replace("OTHER", product.other).encode())
            with db.savepoint():
                raise ZeroDivisionError

    with pytest.raises(psycopg.DatabaseError, match="changed after it was bound"):
        changed_before_it()
