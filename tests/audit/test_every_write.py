"""The log as a whole: every write to every tenant table, every column of an event, and where events lie."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.control import control_of
from pytest_tenantproof.controls.judge import functions, judge, static_ids
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import EmbeddedPostgres
from tests.audit.conftest import TENANT, Log
from tests.support import create_database, reference_settings

OTHER = f"tenant_id <> '{TENANT}'"


def _catalog(dsn: str) -> Catalog:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return Catalog(read_snapshot(connection), reference_settings())


@pytest.fixture(scope="module")
def shared(audited: EmbeddedPostgres) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """One database; each test rolls back what it did."""
    with psycopg.connect(create_database(audited, "product")) as connection:
        yield connection


NEWEST = "xid = (SELECT max(xid) FROM public.audit_events)"
TABLES = ("tenants", "developments", "units", "messages", "tenant_members", "onboarding_transactions")


def test_these_are_the_tenant_tables(log_shared: Log) -> None:
    assert {table.name for table in _catalog(log_shared.dsn).tenant_tables} | {"public.tenants"} == {
        f"public.{name}" for name in TABLES
    }


@pytest.mark.parametrize("table", TABLES)
def test_every_write_to_every_tenant_table_leaves_its_event(
    shared: psycopg.Connection[tuple[Any, ...]], table: str
) -> None:
    """A row that is there is removed, put back and changed, with every other trigger and key out of the way; then all
    are truncated."""
    tenant = "id" if table == "tenants" else "tenant_id"
    changed = "started_at" if table == "onboarding_transactions" else "created_at"
    last = "SELECT coalesce(max(id), 0) FROM public.audit_events"
    with shared.transaction(force_rollback=True):
        before = shared.execute(last.encode()).fetchone()
        for statement in (
            "SET LOCAL session_replication_role = replica",
            f"CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM public.{table} LIMIT 1",
            f"DELETE FROM public.{table} t USING kept k WHERE t = k::text::public.{table}",
            f"INSERT INTO public.{table} SELECT * FROM kept",
            f"UPDATE public.{table} t SET {changed} = t.{changed} + interval '1 s'"
            f" FROM kept k WHERE t = k::text::public.{table}",
        ):
            shared.execute(statement.encode())
        (row,) = shared.execute(f"SELECT k.{tenant}, to_jsonb(k) FROM kept k".encode()).fetchall()
        shared.execute(f"TRUNCATE public.{table} CASCADE".encode())
        events = shared.execute(
            "SELECT operation::text, tenant_id, key_columns, keys, row_count, changed FROM public.audit_events"
            " WHERE table_schema = 'public' AND table_name = %s AND id > %s ORDER BY id",
            [table, before[0] if before else 0],
        ).fetchall()
    assert [event[0] for event in events] == ["DELETE", "INSERT", "UPDATE", "TRUNCATE"]
    for _, whose, key, keys, count, columns in events[:3]:
        assert (whose, count) == (row[0], 1)
        assert all(str(row[1][name]) in keys[0] for name in key)
        assert columns in (None, [changed])
    assert (events[2][5], events[3][1].int, events[3][3]) == ([changed], 0, None)


def test_an_event_says_when_in_which_transaction_and_by_what_application(log: Log) -> None:
    """The time is the write's, not that at which its transaction began."""
    write = "UPDATE public.units SET label = label || '.' WHERE id = (SELECT min(id::text)::uuid FROM public.units)"
    with psycopg.connect(log.dsn) as connection:
        connection.execute("SET application_name = 'billing'; SELECT set_config('app.request_id', 'req-9', true)")
        begun = connection.execute("SELECT now(), pg_current_xact_id()::text").fetchone()
        for _ in range(2):
            connection.execute(write.encode())
            connection.execute("SELECT pg_sleep(0.02)")
        found = connection.execute(
            "SELECT at, xid::text, application_name, request_id, session_role, database_role, actor, actor_source::text"
            " FROM public.audit_events ORDER BY id DESC LIMIT 2"
        ).fetchall()
    assert begun is not None
    (second, *rest), (first, *_) = found
    assert begun[0] < first
    assert first + timedelta(milliseconds=20) <= second
    assert abs(datetime.now(UTC) - second) < timedelta(seconds=30)
    assert rest == [begun[1], "billing", "req-9", "postgres", "postgres", "system:postgres", "role"]


def test_whose_rows_they_are_comes_from_the_row(log: Log) -> None:
    """Not from what the writer says of itself: the service role acts for anybody."""
    (other,) = log.run(f"SELECT tenant_id::text FROM public.units WHERE {OTHER} LIMIT 1")[0]
    log.run(
        "SET ROLE service_role",
        f'SELECT set_config(\'request.jwt.claims\', \'{{"app_metadata": {{"tenant_id": "{TENANT}"}}}}\', false)',
        f"UPDATE public.units SET label = label || '.' WHERE tenant_id = '{other}'",
    )
    assert log.run(f"SELECT DISTINCT tenant_id::text FROM public.audit_events WHERE {NEWEST}") == [(other,)]


def test_one_statement_is_an_event_of_each_tenant_and_thousand_rows(log: Log) -> None:
    """Triggers fire once a statement, not once a row."""
    fires = "SELECT array_agg(DISTINCT tgtype & 1) FROM pg_trigger WHERE tgname LIKE 'audit%' AND NOT tgisinternal"
    ((kinds,),) = log.run(fires)
    assert kinds == [0]
    log.run("DELETE FROM public.messages")
    counted = "count(*), count(DISTINCT tenant_id), sum(row_count)"
    ((events, tenants, rows),) = log.run(f"SELECT {counted} FROM public.audit_events WHERE {NEWEST}")
    assert tenants > 1
    assert events <= tenants * (rows // 1000 + 1) < rows


def test_what_cannot_be_recorded_is_not_written(log: Log) -> None:
    """Under row_security = off the event's INSERT is refused, and the write with it."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="audit_events"):
        log.run("SET row_security = off", "UPDATE public.units SET label = 'unseen ' || label")
    assert log.run("SELECT count(*) FROM public.units WHERE label LIKE 'unseen%'") == [(0,)]


def test_a_new_tenant_table_is_a_finding_until_it_is_audited(log: Log) -> None:
    log.run(
        "CREATE TABLE public.invoices"
        " (tenant_id uuid NOT NULL REFERENCES public.tenants, id uuid, PRIMARY KEY (tenant_id, id))"
    )

    def found() -> set[str]:
        catalog = _catalog(log.dsn)
        results = (judge(i, catalog) for i in static_ids() if i.startswith("TP5"))
        return {
            r.control
            for r in results
            if r.outcome is Outcome.FAILED and any("invoices" in f.object for f in r.findings)
        }

    assert found() == {"TP501", "TP505"}
    log.run("SELECT tenantproof.audit('public.invoices')")
    assert found() == set()
    log.run(f"INSERT INTO public.invoices VALUES ('{TENANT}', gen_random_uuid())")
    assert log.run("SELECT table_name FROM public.audit_events ORDER BY id DESC LIMIT 1") == [("invoices",)]


def test_months_are_there_ahead_and_what_has_none_lands_in_the_default(log: Log) -> None:
    months = "SELECT relid::regclass::text FROM pg_partition_tree('audit_events') WHERE isleaf ORDER BY 1"
    names = [name.removeprefix("public.") for (name,) in log.run(months)]
    now = datetime.now(UTC)
    ahead = [(now.year + (now.month - 1 + n) // 12, (now.month - 1 + n) % 12 + 1) for n in range(13)]
    assert names == [*sorted(f"audit_events_{year}_{month:02}" for year, month in ahead), "audit_events_default"]
    where = "SELECT tableoid::regclass::text FROM public.audit_events ORDER BY id DESC LIMIT 1"
    write = "UPDATE public.units SET label = label || '.'"
    log.run(write)
    assert log.run(where)[0][0].endswith(f"audit_events_{now:%Y_%m}")
    log.run(f"DROP TABLE public.audit_events_{now:%Y_%m}", write)
    assert log.run(where)[0][0].endswith("audit_events_default")


def test_the_log_and_each_part_of_it_belong_to_nobody_who_logs_in(log_shared: Log) -> None:
    owners = log_shared.run(
        "SELECT DISTINCT r.rolname, r.rolcanlogin, r.rolsuper, r.rolbypassrls, c.relforcerowsecurity"
        " FROM pg_partition_tree('public.audit_events') t JOIN pg_class c ON c.oid = t.relid"
        " JOIN pg_roles r ON r.oid = c.relowner"
    )
    assert owners == [("tenantproof_audit", False, False, False, True)]


MONTH = f"audit_events_{datetime.now(UTC):%Y_%m}"


@pytest.mark.parametrize(
    "role", ["postgres", "tenantproof_audit", "service_role", "authenticated", "anon", "app_scoped"]
)
@pytest.mark.parametrize("replica", ["origin", "replica"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE public.{} SET actor = 'x'",
        "DELETE FROM public.{}",
        "TRUNCATE public.{}",
        "MERGE INTO public.{} e USING (VALUES (1)) v (n) ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_the_partition_that_is_written_to_is_no_way_around(
    log_shared: Log, role: str, replica: str, statement: str
) -> None:
    """Statement triggers are not cloned to partitions: each has its own."""
    with psycopg.connect(log_shared.dsn) as connection:
        connection.execute("UPDATE public.units SET label = label || '.'")
        connection.execute(f"SET LOCAL session_replication_role = {replica}".encode())
        connection.execute(f"SET LOCAL ROLE {role}".encode())
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(statement.format(MONTH).encode())
        assert refused.value.sqlstate in ("TP001", "42501")
        connection.rollback()


@pytest.mark.parametrize("role", ["service_role", "authenticated", "anon", "app_scoped"])
def test_nobody_writes_into_the_partition_by_hand(log_shared: Log, role: str) -> None:
    with psycopg.connect(log_shared.dsn, autocommit=True) as connection:
        connection.execute(f"SET ROLE {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"INSERT INTO public.{MONTH} (tenant_id) VALUES (gen_random_uuid())".encode())


def test_truncating_a_partition_of_a_tenant_table_is_recorded(log: Log) -> None:
    log.run(
        "CREATE TABLE public.readings (tenant_id uuid, n int, PRIMARY KEY (tenant_id, n)) PARTITION BY RANGE (n)",
        "CREATE TABLE public.readings_1 PARTITION OF public.readings FOR VALUES FROM (0) TO (10)",
        "SELECT tenantproof.audit('public.readings')",
        "TRUNCATE public.readings_1",
    )
    last = "SELECT table_name, operation::text FROM public.audit_events ORDER BY id DESC LIMIT 1"
    assert log.run(last) == [("readings_1", "TRUNCATE")]
    # one that is added later is a finding until it is called again
    log.run("CREATE TABLE public.readings_2 PARTITION OF public.readings FOR VALUES FROM (10) TO (20)")
    (result,) = (judge(i, _catalog(log.dsn)) for i in ("TP505",))
    assert [f.object for f in result.findings] == ["public.readings_2"]
    log.run("SELECT tenantproof.audit('public.readings')", "TRUNCATE public.readings_2")
    assert log.run(last) == [("readings_2", "TRUNCATE")]


PROMISES = {
    "triggers on every table and operation": ("TP501", "TP502", "TP505"),
    "append-only really refused": ("TP503", "TP513"),
    "owner": ("TP504",),
    "grants": ("TP503", "TP511"),
    "partitions": ("TP506",),
    "keys that transition tables are paired by": ("TP507",),
    "no gaps against seals": ("TP515",),
    "actor established": ("TP510", "TP514"),
    "clock": ("TP508", "TP516"),
}


def test_each_promise_about_the_log_has_a_control_that_can_fail() -> None:
    declared = {i: control_of(function) for i, function in functions().items()}
    for promise, ids in PROMISES.items():
        for id_ in ids:
            found = declared[id_]
            assert found is not None, promise
            assert found.faults, promise
