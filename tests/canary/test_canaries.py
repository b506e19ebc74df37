"""Each corruption makes its own canary fire, and none other; the role that watches sees numbers and no row."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.canary import Level, Readings, level_of, measure
from pytest_tenantproof.canary.record import record_readings
from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.target import rolled_back
from tests.support import reference_settings

CANARIES = ("TP801", "TP802", "TP803", "TP804", "TP805", "TP811")


@pytest.fixture
def connection(reference_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(reference_database, autocommit=True) as found:
        yield found


def read(connection: psycopg.Connection[Any], declared: Catalog, role: str = "tenantproof_auditor") -> Readings:
    catalog = Catalog(read_snapshot(connection), reference_settings())
    connection.execute(f"SET LOCAL ROLE {role}".encode())
    try:
        return measure(connection, catalog, declared, "prod")
    finally:
        connection.execute("RESET ROLE")


def fired(readings: Readings) -> set[tuple[str, str]]:
    return {(r.canary, r.object) for r in readings.taken if r.level is Level.FAIL}


CORRUPTIONS = {
    "nothing": ("SELECT 1", set()),
    "an orphan message": (
        "ALTER TABLE messages DROP CONSTRAINT messages_unit_fk; UPDATE messages SET unit_id = gen_random_uuid()"
        " WHERE id = (SELECT id FROM messages LIMIT 1)",
        {("TP801", "public.messages.unit_id")},
    ),
    "a unit whose development is gone": (
        "DELETE FROM developments WHERE id = (SELECT development_id FROM units LIMIT 1)",
        {("TP801", "public.units.development_id"), ("TP801", "public.messages.development_id")},
    ),
    "a misaligned message": (
        "ALTER TABLE messages DISABLE TRIGGER USER; ALTER TABLE messages DROP CONSTRAINT messages_unit_fk;"
        "ALTER TABLE messages DROP CONSTRAINT messages_development_fk; UPDATE messages m"
        " SET tenant_id = (SELECT id FROM tenants t WHERE t.id <> m.tenant_id LIMIT 1)"
        " WHERE id = (SELECT id FROM messages LIMIT 1)",
        {("TP802", "public.messages.unit_id"), ("TP802", "public.messages.development_id")},
    ),
    "a row without a tenant": (
        "ALTER TABLE onboarding_transactions DISABLE TRIGGER USER;"
        "ALTER TABLE onboarding_transactions ALTER tenant_id DROP NOT NULL; INSERT INTO onboarding_transactions"
        " (id, status, started_at) VALUES (gen_random_uuid(), 'done', now())",
        {("TP803", "public.onboarding_transactions")},
    ),
    "failed onboardings": (
        "INSERT INTO onboarding_transactions (id, tenant_id, status, error, started_at) SELECT gen_random_uuid(),"
        " (SELECT id FROM tenants LIMIT 1), 'failed', 'x', now() FROM generate_series(1, 9)",
        {("TP804", "public.onboarding_transactions")},
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_fires_its_canary_and_no_other(name: str, connection: psycopg.Connection[Any]) -> None:
    sql, expected = CORRUPTIONS[name]
    declared = Catalog(read_snapshot(connection), reference_settings())
    with rolled_back(connection):
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(sql.encode())
        connection.execute("SET LOCAL session_replication_role = origin")
        readings = read(connection, declared)
    assert fired(readings) == expected
    assert not {c: p for c, p in readings.problems.items() if c in CANARIES}


def test_an_idle_transaction_is_seen(connection: psycopg.Connection[Any], reference_database: str) -> None:
    with psycopg.connect(reference_database) as idle:
        idle.execute("SELECT count(*) FROM messages")
        idle.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        declared = Catalog(read_snapshot(connection), reference_settings())
        with rolled_back(connection):
            readings = read(connection, declared)
    (reading,) = readings.of("TP811")
    assert reading.value >= 0


def refused(connection: psycopg.Connection[Any], role: str, sql: str) -> str | None:
    """The SQLSTATE that a session of that role meets, None where it is let through."""
    with rolled_back(connection):
        connection.execute(f"SET LOCAL SESSION AUTHORIZATION {role}".encode())
        try:
            connection.execute(sql.encode())
        except psycopg.Error as error:
            return error.sqlstate
    return None


def test_who_watches_can_read_no_row(connection: psycopg.Connection[Any]) -> None:
    count = "SELECT tenantproof.count_nulls('public.messages', 'tenant_id')"
    for table in Catalog(read_snapshot(connection), reference_settings()).isolated_tables:
        assert refused(connection, "tenantproof_auditor", f"SELECT FROM {table.name}") == "42501"
    for role in ("anon", "authenticated", "app_backend", "tenantproof_recorder"):
        assert refused(connection, role, count) == "42501"
    assert refused(connection, "tenantproof_auditor", "SET ROLE tenantproof_counter") == "42501"
    assert refused(connection, "tenantproof_auditor", count) is None


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("public.messages; DROP TABLE x", "tenant_id"),
        ("public.nothing", "tenant_id"),
        ("pg_catalog.pg_authid", "rolpassword"),
        ("public.messages", "body IS NOT NULL OR tenant_id"),
    ],
)
def test_names_are_names_and_never_sql(table: str, column: str, connection: psycopg.Connection[Any]) -> None:
    assert refused(connection, "tenantproof_auditor", f"SELECT tenantproof.count_nulls('{table}', '{column}')")


def test_a_canary_that_cannot_look_says_so(connection: psycopg.Connection[Any]) -> None:
    declared = Catalog(read_snapshot(connection), reference_settings())
    with rolled_back(connection):
        assert "GRANT tenantproof_auditor" in read(connection, declared, "tenantproof_recorder").problems["TP801"]
    with rolled_back(connection):
        connection.execute("DROP FUNCTION tenantproof.count_nulls(regclass, name)")
        connection.execute("ALTER TABLE messages ALTER tenant_id DROP NOT NULL")
        assert "004_canaries" in read(connection, declared).problems["TP803"]


def test_new_rows_are_counted_between_whole_passes(connection: psycopg.Connection[Any]) -> None:
    """Only a whole pass sees an old row that lost its parent; each pass sees a new one."""
    declared = Catalog(read_snapshot(connection), reference_settings())
    with rolled_back(connection):
        first = read(connection, declared)
        assert first.whole
        connection.execute("SET LOCAL ROLE tenantproof_recorder")
        assert record_readings(connection, "prod", Readings(first.taken, {}, True, datetime.now(UTC))) > 10
        connection.execute("RESET ROLE; SET LOCAL session_replication_role = replica")
        old = "UPDATE messages SET unit_id = gen_random_uuid(), created_at = now() - interval '9 days' WHERE id ="
        connection.execute(f"{old} (SELECT id FROM messages LIMIT 1)".encode())
        second = read(connection, declared)
        assert not second.whole
        assert ("TP801", "public.messages.unit_id") not in fired(second)
        connection.execute(
            "UPDATE messages SET unit_id = gen_random_uuid(), created_at = now()"
            " WHERE id = (SELECT id FROM messages ORDER BY id DESC LIMIT 1)"
        )
        assert ("TP801", "public.messages.unit_id") in fired(read(connection, declared))
        connection.execute("UPDATE canary_runs SET run_at = %s", [datetime.now(UTC) - timedelta(hours=30)])
        assert read(connection, declared).whole


def test_levels() -> None:
    assert [level_of(v, 2, 5) for v in (0, 2, 4.9, 5, 9)] == [Level.OK, Level.WARN, Level.WARN, Level.FAIL, Level.FAIL]


def test_a_tenant_that_loses_abnormally_much_is_seen(connection: psycopg.Connection[Any]) -> None:
    """Compared with the same hours of past weeks: a job that deletes as much every week is no news."""
    declared = Catalog(read_snapshot(connection), reference_settings())
    add = (
        "INSERT INTO audit_events (at, tenant_id, actor, actor_source, database_role, table_schema, table_name,"
        " operation, row_count, key_columns) SELECT now() - make_interval(weeks => w, mins => 5), t.id, 'x', 'role',"
        " 'x', 'public', 'messages', 'DELETE', {rows}, '{{id}}' FROM generate_series({first}, {last}) w,"
        " (SELECT id FROM tenants LIMIT 1) t"
    )
    for past, now, level in ((0, 500, Level.FAIL), (450, 500, Level.OK), (0, 50, Level.OK)):
        with rolled_back(connection):
            connection.execute(add.format(rows=past, first=1, last=4).encode())
            connection.execute(add.format(rows=now, first=0, last=0).encode())
            readings = read(connection, declared)
        assert not readings.problems.get("TP805")
        assert [r.level for r in readings.of("TP805")] == [level], (past, now)
