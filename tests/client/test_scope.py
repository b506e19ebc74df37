"""Inside a scope there is one tenant, whatever the SQL; outside there is none."""

import json
import subprocess
import sys
import threading
import uuid
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from pytest_tenantproof.client import TenantPool, TenantScopeError
from tests.client.conftest import CONFIG, Product


def test_any_sql_sees_one_tenant_alone(pool: TenantPool, product: Product) -> None:
    for tenant in (product.one, uuid.UUID(product.other), product.one.upper()):
        with pool.tenant(tenant, actor="user:42") as db:
            for query in (
                "SELECT DISTINCT tenant_id::text FROM messages",
                "SELECT DISTINCT m.tenant_id::text FROM messages m JOIN units u ON u.id = m.unit_id",
                "WITH x AS (SELECT * FROM units) SELECT DISTINCT tenant_id::text FROM x",
                "SELECT id::text FROM public.tenants",
                "TABLE message_overview",
                "SELECT DISTINCT tenant_id::text FROM messages WHERE tenant_id = tenant_id OR true",
            ):
                rows = db.execute(query)
                assert rows
                if len(rows.columns) == 1:
                    assert rows == [(str(tenant).lower(),)], query


def test_the_same_server_connection_serves_another_tenant_next(pool: TenantPool, product: Product) -> None:
    seen = []
    for tenant in (product.one, product.other, product.one):
        with pool.tenant(tenant, actor=f"user:{tenant}", request_id="r-1") as db:
            seen.append(db.execute("SELECT pg_backend_pid()")[0][0])
            assert db.execute("SELECT DISTINCT tenant_id::text FROM units") == [(tenant,)]
            claims = db.execute("SELECT current_setting('request.jwt.claims')::jsonb")[0][0]
            assert (claims["actor"], claims["request_id"]) == (f"user:{tenant}", "r-1")
        left = pool.execute(
            "SELECT current_setting('request.jwt.claims', true), current_setting('app.binding', true), current_user"
        )
        assert left == [("", "", "app_scoped")]
        assert pool.execute("SELECT pg_backend_pid()")[0][0] == seen[-1]
    assert len(set(seen)) == 1


def test_writes_are_committed_rolled_back_and_kept_to_the_tenant(pool: TenantPool, product: Product) -> None:
    name = f"D{uuid.uuid4()}"
    insert = "INSERT INTO developments (id, tenant_id, name) VALUES (gen_random_uuid(), %s, %s)"
    with pool.tenant(product.one, actor="user:1") as db:
        assert db.execute(insert, [product.one, name]).rowcount == 1
        assert db.executemany(insert, [[product.one, name], (product.one, name)]) == 2
    with pytest.raises(psycopg.errors.DivisionByZero), pool.tenant(product.one, actor="user:1") as db:
        db.execute(
            "UPDATE developments SET name = (1 / (n - n))::text FROM generate_series(1, 2) n WHERE name = %(name)s",
            {"name": name},
        )
    with pool.tenant(product.other, actor="user:2") as db:
        assert db.execute("UPDATE developments SET name = 'taken' WHERE name = %s", [name]).rowcount == 0
        assert db.execute("DELETE FROM developments WHERE name = %s", [name]).rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege), pool.tenant(product.other, actor="user:2") as db:
        db.execute(insert, [product.one, name])
    with pool.tenant(product.one, actor="user:1") as db:
        assert db.execute("SELECT count(*) FROM developments WHERE name = %s", [name]).first() == (3,)
        db.execute("DELETE FROM developments WHERE name = %s", [name])


@pytest.mark.parametrize(
    ("tenant", "says"),
    [
        (None, "is a NoneType"),
        (42, "is a int"),
        (True, "is a bool"),
        (b"c0ffee00-0000-4000-8000-000000000000", "is a bytes"),
        ("", "malformed"),
        ("tenant-1", "malformed"),
        ("c0ffee00-0000-4000-8000-00000000000g", "malformed"),
        ("{c0ffee00-0000-4000-8000-000000000000}", "malformed"),
        ("c0ffee00-0000-4000-8000-000000000000' OR true --", "malformed"),
        ("c0ffee00-0000-4000-8000-000000000000\n", "malformed"),
        (uuid.UUID(int=0), "all zeros"),
        ("00000000-0000-0000-0000-000000000000", "all zeros"),
    ],
)
def test_a_bad_tenant_id_raises_and_logs(
    pool: TenantPool, tenant: object, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TenantScopeError, match=says), pool.tenant(tenant, actor="user:42"):
        pytest.fail("a scope was opened")
    assert "user:42" in caplog.text
    assert "test_scope.py:" in caplog.text


@pytest.mark.parametrize("actor", ["", "  ", None, 7, "a\nb", "x" * 201, "nul\0"])
def test_a_bad_actor_raises(pool: TenantPool, product: Product, actor: Any) -> None:
    with pytest.raises(TenantScopeError, match="actor"), pool.tenant(product.one, actor=actor):
        pytest.fail("a scope was opened")


def test_an_actor_is_data_and_nothing_else(pool: TenantPool, product: Product) -> None:
    actor = "o'Brien\\'); SELECT 1; --\"$$é"
    with pool.tenant(product.one, actor=actor, request_id="'; ROLLBACK; --") as db:
        claims = db.execute("SELECT current_setting('request.jwt.claims')::jsonb")[0][0]
        assert (claims["actor"], claims["request_id"]) == (actor, "'; ROLLBACK; --")


def test_scopes_do_not_nest_and_the_handle_dies_with_its_block(pool: TenantPool, product: Product) -> None:
    with pool.tenant(product.one, actor="user:1") as db:
        with pytest.raises(TenantScopeError, match="inside another"), pool.tenant(product.other, actor="user:1"):
            pytest.fail("nested")
        with (
            pytest.raises(TenantScopeError, match="inside another"),
            pool.all_tenants(reason="nightly billing", actor="user:1"),
        ):
            pytest.fail("nested")
        with pytest.raises(TenantScopeError, match="used inside a scope"):
            pool.execute("SELECT 1")
        assert db.execute("SELECT DISTINCT tenant_id::text FROM units") == [(product.one,)]
    for use in (
        lambda: db.execute("SELECT 1"),
        lambda: db.executemany("SELECT %s", [[1]]),
        lambda: db.savepoint().__enter__(),
    ):
        with pytest.raises(TenantScopeError, match="has ended"):
            use()
    with pool.tenant(product.other, actor="user:2") as db:
        assert db.execute("SELECT DISTINCT tenant_id::text FROM units") == [(product.other,)]


def test_threads_have_scopes_of_their_own(product: Product) -> None:
    found: dict[str, list[tuple[str]]] = {}
    with TenantPool(product.backend, config=CONFIG, max_size=4) as pool:

        def work(tenant: str) -> None:
            for _ in range(20):
                with pool.tenant(tenant, actor="user:1") as db:
                    found.setdefault(tenant, []).extend(db.execute("SELECT DISTINCT tenant_id::text FROM units"))

        threads = [threading.Thread(target=work, args=[t]) for t in (product.one, product.other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {tenant: set(rows) for tenant, rows in found.items()} == {t: {(t,)} for t in (product.one, product.other)}


def test_outside_a_scope_tenant_tables_raise_before_anything_is_sent(
    pool: TenantPool, product: Product, caplog: pytest.LogCaptureFixture
) -> None:
    product.sql("SELECT pg_stat_reset()")
    for query in (
        "SELECT * FROM messages WHERE body = %s",
        "SELECT 1 FROM public.tenants WHERE name = %s",
        'SELECT %s FROM "message_overview"',
        "WITH gone AS (DELETE FROM units WHERE label = %s RETURNING 1) SELECT * FROM gone",
        "INSERT INTO developments (name) VALUES (%s)",
        "SELECT (SELECT count(*) FROM elsewhere.x, tenant_members WHERE role = %s)",
        "EXPLAIN ANALYZE SELECT * FROM onboarding_transactions WHERE status = %s",
    ):
        caplog.clear()
        with pytest.raises(TenantScopeError, match="outside a tenant scope"):
            pool.execute(query, ["a secret value"])
        assert "test_scope.py:" in caplog.text
        assert "a secret value" not in caplog.text
    assert "onboarding_transactions" in caplog.text
    assert pool.execute("SELECT %s::int + 1 AS n, 5 %% 3", [1]) == [(2, 2)]


def test_the_database_refuses_on_its_own(product: Product) -> None:
    """A client with a bug, or none at all: the scoped role without a binding has nothing."""
    with psycopg.connect(product.backend, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM messages")
        connection.execute("SET ROLE app_scoped")
        for table in ("tenants", "units", "messages", "message_overview"):
            with pytest.raises(psycopg.DatabaseError, match="no tenant is bound"):
                connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
        claims = json.dumps({"app_metadata": {"tenant_id": product.one}})
        connection.execute("SELECT set_config('request.jwt.claims', %s, false)", [claims])
        with pytest.raises(psycopg.DatabaseError, match="was not bound by"):
            connection.execute("SELECT * FROM messages")
        for role in ("service_role", "app_owner", "postgres", "authenticated"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))


def test_views_and_functions_cannot_be_talked_round_outside(pool: TenantPool, product: Product) -> None:
    with TenantPool(product.backend, tenant_tables=["public.units"], config=CONFIG) as forgetful:
        with pytest.raises(psycopg.DatabaseError, match="no tenant is bound"):
            forgetful.execute("SELECT * FROM messages")
        with pytest.raises(TenantScopeError):
            forgetful.execute("SELECT * FROM units")


@pytest.mark.parametrize(
    ("role", "says"),
    [
        ("postgres", "superuser or bypasses"),
        ("tp_exempt", "superuser or bypasses"),
        ("tp_climber", "can also become service_role"),
        ("tp_stranger", "cannot become app_scoped"),
        ("app_operator", "can also become service_role"),
    ],
)
def test_sessions_that_could_get_round_row_security_are_refused(product: Product, role: str, says: str) -> None:
    with psycopg.connect(product.admin, autocommit=True) as connection:
        connection.execute(
            "DO $$ BEGIN CREATE ROLE tp_exempt LOGIN BYPASSRLS; CREATE ROLE tp_climber LOGIN NOINHERIT;"
            " CREATE ROLE tp_stranger LOGIN; GRANT app_scoped TO tp_exempt, tp_climber;"
            " GRANT service_role TO tp_climber;"
            " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
    try:
        with pytest.raises(TenantScopeError, match=says):
            TenantPool(make_conninfo(product.admin, user=role), config=CONFIG)
    finally:
        product.sql("DROP ROLE tp_exempt; DROP ROLE tp_climber; DROP ROLE tp_stranger")


def test_a_session_that_reads_text_in_another_way_is_refused(product: Product) -> None:
    for options in ("-c standard_conforming_strings=off", "-c client_encoding=SJIS"):
        dsn = make_conninfo(product.backend, options=options)
        with TenantPool(dsn, config=CONFIG) as pool, pytest.raises(TenantScopeError, match="in another way"):
            pool.execute("SELECT 1")


def test_all_tenants_is_loud(pool: TenantPool, product: Product, caplog: pytest.LogCaptureFixture) -> None:
    before = product.sql("SELECT count(*) FROM tenantproof.cross_tenant_log")[0][0]
    reason = "nightly billing, it's due"
    with pool.all_tenants(reason=reason, actor="system:billing") as db:
        assert len(db.execute("SELECT DISTINCT tenant_id FROM messages")) == 4
        with pytest.raises(TenantScopeError, match="set_config"):
            db.execute("SELECT set_config('role', 'none', true)")
    with pytest.raises(psycopg.errors.DivisionByZero), pool.all_tenants(reason=reason, actor="system:x") as db:
        db.execute("SELECT 1 / 0")
    log = product.sql("SELECT actor, reason, session_role FROM tenantproof.cross_tenant_log ORDER BY id")
    assert log[int(str(before)) :] == [
        ("system:billing", reason, "app_operator"),
        ("system:x", reason, "app_operator"),
    ]
    assert "nightly billing" in caplog.text
    assert "test_scope.py:" in caplog.text
    for bad in ("", "because", None):
        with pytest.raises(TenantScopeError, match="reason"), pool.all_tenants(reason=bad, actor="a"):  # type: ignore[arg-type]
            pytest.fail("opened without a reason")
    with (
        TenantPool(product.backend, config=CONFIG) as plain,
        pytest.raises(TenantScopeError, match="cross-tenant"),
        plain.all_tenants(reason="nightly billing", actor="a"),
    ):
        pytest.fail("opened without a login for it")


def test_the_record_of_cross_tenant_work_is_append_only(product: Product) -> None:
    product.sql("INSERT INTO tenantproof.cross_tenant_log (actor, reason) VALUES ('a', 'a good reason')")
    for statement in ("UPDATE {} SET actor = 'x'", "DELETE FROM {}", "TRUNCATE {}"):
        with pytest.raises(psycopg.DatabaseError, match="append-only"):
            product.sql("SET session_replication_role = replica; " + statement.format("tenantproof.cross_tenant_log"))


def test_rows_keep_the_users_row_factory(product: Product) -> None:
    with (
        TenantPool(product.backend, config=CONFIG, row_factory=dict_row) as pool,
        pool.tenant(product.one, actor="user:1", read_only=True) as db,
    ):
        assert db.execute(sql.SQL("SELECT 1 AS {}").format(sql.Identifier("n"))).first() == {"n": 1}
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), db.savepoint():
            db.execute("DELETE FROM messages")


def test_importable_where_pytest_and_boto3_are_not() -> None:
    code = (
        "import sys\nfor name in ('pytest', '_pytest', 'boto3', 'jinja2', 'requests'): sys.modules[name] = None\n"
        "import pytest_tenantproof.client"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
