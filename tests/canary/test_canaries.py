"""Each corruption makes its own canary fire, and none other; the role that watches sees numbers and no row."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.canary import Level, Readings, level_of, measure
from pytest_tenantproof.canary.record import record_readings
from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.config.canary import CanarySettings
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
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


MORE = (
    "INSERT INTO messages (id, tenant_id, development_id, unit_id, author, body, created_at)"
    " SELECT gen_random_uuid(), tenant_id, development_id, unit_id, author, body, created_at"
    " FROM messages, generate_series(1, 2); ANALYZE messages"
)
SKIP = "SELECT tenantproof.skip_order('public.messages', '{tenant_id,development_id,unit_id}'::name[])"


@pytest.mark.parametrize("dense", [False, True], ids=["rows", "values"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_fires_its_canary_and_no_other(
    name: str, dense: bool, connection: psycopg.Connection[Any]
) -> None:
    """`values`: so many messages a unit that references are gone through value by value."""
    sql, expected = CORRUPTIONS[name]
    declared = Catalog(read_snapshot(connection), reference_settings())
    with rolled_back(connection):
        connection.execute("SET LOCAL session_replication_role = replica")
        if dense:
            connection.execute(MORE.encode())
            assert connection.execute(SKIP.encode()).fetchone() == (["tenant_id", "development_id", "unit_id"],)
        connection.execute(sql.encode())
        connection.execute("SET LOCAL session_replication_role = origin")
        readings = read(connection, declared)
    assert fired(readings) == expected
    assert not {c: p for c, p in readings.problems.items() if c in CANARIES}


def test_going_by_values_finds_what_going_by_rows_finds(connection: psycopg.Connection[Any]) -> None:
    """On random rows, and never where a NULL could hide one."""
    generator = random.Random(20261125)
    found = 0
    with rolled_back(connection):
        connection.execute("SET LOCAL search_path = public")
        for number in range(25):
            rows = [(generator.randrange(4), generator.randrange(4)) for _ in range(6)]
            parents = [pair for pair in set(rows) if generator.random() < 0.85]
            connection.execute(
                f"CREATE TABLE p{number} (x int, y int, UNIQUE (y, x));"
                f"CREATE TABLE c{number} (a int NOT NULL, b int NOT NULL); CREATE INDEX ON c{number} (b, a);"
                f"GRANT SELECT ON p{number}, c{number} TO tenantproof_counter".encode()
            )
            with connection.cursor() as cursor:
                cursor.executemany(f"INSERT INTO p{number} VALUES (%s, %s)".encode(), parents)
                cursor.executemany(f"INSERT INTO c{number} VALUES (%s, %s)".encode(), rows * 60)
            connection.execute(f"ANALYZE c{number}".encode())
            order = f"SELECT tenantproof.skip_order('c{number}', '{{a,b}}'::name[])".encode()
            assert connection.execute(order).fetchone() == (["b", "a"],)
            named = f"'c{number}', '{{a,b}}'::name[], 'p{number}', '{{x,y}}'::name[]"
            assert connection.execute(f"SELECT tenantproof.count_strays({named})".encode()).fetchone() == (
                len(set(rows) - set(parents)),
            )
            found += len(set(rows) - set(parents)) > 0
            connection.execute(f"ALTER TABLE c{number} ALTER b DROP NOT NULL".encode())
            assert connection.execute(order).fetchone() == (None,)
    assert 5 < found < 25


@pytest.mark.parametrize(("begin", "level"), [("REPEATABLE READ", Level.FAIL), ("READ COMMITTED", Level.OK)])
def test_an_idle_transaction_that_holds_back_cleaning_up_is_seen(
    connection: psycopg.Connection[Any], reference_database: str, begin: str, level: Level
) -> None:
    """One that keeps its snapshot does; one that is idle without one holds back nothing."""
    limits = replace(reference_settings(), canary=CanarySettings(idle_fail_s=0.05))
    with psycopg.connect(reference_database, autocommit=True) as idle, rolled_back(connection):
        idle.execute(f"BEGIN ISOLATION LEVEL {begin}".encode())
        idle.execute("SELECT count(*) FROM messages")
        connection.execute("SELECT pg_sleep(0.1); SET LOCAL ROLE tenantproof_auditor")
        readings = measure(connection, Catalog(read_snapshot(connection), limits), None, "prod")
        (reading,) = readings.of("TP811")
    assert (reading.level, reading.value > 0.05) == (level, level is Level.FAIL)


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


def test_who_watches_cannot_test_guesses(connection: psycopg.Connection[Any]) -> None:
    """Neither with a table of guesses, nor along columns that are no key, nor for a state that nobody watches."""
    strays = "SELECT tenantproof.count_{}('public.messages', '{{{}}}'::name[], '{}', '{{{}}}'::name[])"
    with rolled_back(connection):
        connection.execute("GRANT TEMPORARY ON DATABASE postgres TO PUBLIC; SET LOCAL ROLE tenantproof_auditor")
        connection.execute("CREATE TEMP TABLE guess (body text UNIQUE); GRANT ALL ON guess TO tenantproof_counter")
        for kind in ("strays", "orphans"):
            for child, parent, column in (("body", "guess", "body"), ("author", "public.messages", "body")):
                with pytest.raises(psycopg.Error, match="has no unique key"), connection.transaction():
                    connection.execute(strays.format(kind, child, parent, column).encode())
        named = "'public.messages', '{author}'::name[], 'public.messages', '{body}'::name[], '{}', '{}'"
        with pytest.raises(psycopg.Error, match="has no unique key"), connection.transaction():
            connection.execute(f"SELECT tenantproof.count_misaligned({named})".encode())
        named = "'public.messages', '{id}'::name[], 'public.tenants', '{id}'::name[]"
        for column in ("body", "id", "nothing"):  # every message strays here, so a range would count them
            with pytest.raises(psycopg.Error, match="are not dated by"), connection.transaction():
                connection.execute(f"SELECT tenantproof.count_strays({named}, '{column}', now())".encode())
        failed = "SELECT tenantproof.count_failed('public.{}', '{}', '{}', '{}', '-infinity')"
        for table, column, value, at in (
            ("messages", "body", "hello", "created_at"),
            ("onboarding_transactions", "error", "failed", "started_at"),
            ("onboarding_transactions", "status", "done", "started_at"),
        ):
            with pytest.raises(psycopg.Error, match="watched_states"), connection.transaction():
                connection.execute(failed.format(table, column, value, at).encode())
        watched = failed.format("onboarding_transactions", "status", "failed", "started_at")
        assert connection.execute(watched.encode()).fetchone() is not None


ADD = "INSERT INTO public.canary_runs (run_at, target, whole, canary, object, value, level{}) VALUES ({}, 'prod', true,"


@pytest.mark.parametrize(
    ("column", "value", "at", "state"),
    [
        ("", "", "now()", None),
        (", recorded_by", ", 'somebody'", "now()", "42501"),
        (", recorded_at", ", now() - interval '1 year'", "now()", "42501"),
        (", id", ", 1", "now()", "42501"),
        ("", "", "now() + interval '1 minute'", "42501"),
        ("", "", "now() - interval '2 days'", "42501"),
    ],
)
def test_who_records_says_neither_who_nor_when(
    connection: psycopg.Connection[Any], column: str, value: str, at: str, state: str | None
) -> None:
    overriding = " OVERRIDING SYSTEM VALUE VALUES" if column == ", id" else " VALUES"
    sql = f"{ADD.format(column, at)} 'TP801', 'x', 0, 'ok'{value})".replace(" VALUES", overriding)
    assert refused(connection, "tenantproof_recorder", sql) == state
    for kept in ("SELECT FROM canary_runs", "DELETE FROM canary_runs", "UPDATE canary_runs SET value = 0"):
        assert refused(connection, "tenantproof_recorder", kept) == "42501"


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ("ALTER ROLE tenantproof_auditor BYPASSRLS", "can do more than it may"),
        ("ALTER ROLE tenantproof_recorder LOGIN", "can do more than it may"),
        ("GRANT pg_read_all_data TO tenantproof_auditor", "is a member of others"),
        ("GRANT app_owner TO tenantproof_counter", "is a member of others"),
        ("ALTER ROLE tenantproof_counter NOBYPASSRLS", "would count only what policies show it"),
    ],
)
def test_roles_that_can_do_more_are_not_taken_over(
    connection: psycopg.Connection[Any], change: str, refusal: str
) -> None:
    text = (migrations_folder() / "004_canaries.sql").read_bytes()
    with rolled_back(connection):
        connection.execute(text)  # again: it is idempotent
        connection.execute(change.encode())
        with pytest.raises(psycopg.Error, match=refusal):
            connection.execute(text)


def test_writes_that_leave_no_event_are_seen(new_database: Callable[[], str]) -> None:
    """Also where the log has older events. Statistics count a write that was rolled back, events do not."""
    dsn = new_database()
    apply(dsn, migrations_folder())
    load_demo(dsn)
    update = b"UPDATE messages SET body = body || '.' WHERE id IN (SELECT id FROM messages LIMIT 3)"
    with psycopg.connect(dsn, autocommit=True) as connection:
        declared = Catalog(read_snapshot(connection), reference_settings())

        def warned(recorded: str) -> bool:
            """Whether the canary warns of messages; its readings are then kept as of that time."""
            connection.execute("SELECT pg_stat_force_next_flush()")
            with rolled_back(connection):
                readings = read(connection, declared)
            [found] = [r for r in readings.of("TP806") if r.object == "public.messages"]
            connection.execute("DELETE FROM canary_runs")
            connection.execute(
                "INSERT INTO canary_runs (run_at, target, whole, canary, object, value, level)"
                f" VALUES (now() + interval '{recorded}', 'prod', true, 'TP806', 'public.messages', %s, 'ok')".encode(),
                [found.value],
            )
            return found.level is Level.WARN

        assert not warned("0")
        connection.execute(update)
        assert not warned("5 minutes")
        assert not warned("5 minutes")
        with rolled_back(connection):
            connection.execute(update)
        assert warned("0")


@pytest.mark.parametrize(("hours", "level"), [(1, Level.OK), (30, Level.WARN), (60, Level.FAIL), (-9, Level.OK)])
def test_the_age_of_backups_and_drills(connection: psycopg.Connection[Any], hours: int, level: Level) -> None:
    """What is dated in the future is as old as its record."""
    declared = Catalog(read_snapshot(connection), reference_settings())
    with rolled_back(connection):
        assert {"TP807", "TP808"} <= set(read(connection, declared).problems)
        at = f"now() - interval '{hours} hours'"
        connection.execute(
            f"INSERT INTO backup_runs (run, target, started_at, finished_at, outcome, manifest_sha256) VALUES"
            f" ('r', 'prod', {at}, {at}, 'completed', repeat('0', 64)); INSERT INTO restore_drills"
            f" (drill, target, run, started_at, finished_at, outcome, manifest_sha256) VALUES"
            f" ('d', 'prod', 'r', {at}, {at}, 'passed', repeat('0', 64));".encode()
        )
        found = read(connection, declared)
    (backup,), (drill,) = found.of("TP807"), found.of("TP808")
    assert (backup.level, drill.level) == (level, Level.WARN if 30 <= hours < 60 else level)
    assert min(backup.value, drill.value) >= 0


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
        assert record_readings(connection, "prod", Readings(first.taken, {}, True, first.at)) > 10
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
