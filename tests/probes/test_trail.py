"""What is tried on the audit log: it is found whole where it is, each fault is found, and nothing is left behind."""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from pytest_tenantproof.audit import order
from pytest_tenantproof.catalog import Catalog, digest, read_snapshot
from pytest_tenantproof.config import Settings
from pytest_tenantproof.control import control_of
from pytest_tenantproof.controls.judge import functions, judge
from pytest_tenantproof.model import Outcome, Result
from pytest_tenantproof.probes import follow
from pytest_tenantproof.prove.placeholders import fill, placeholders
from pytest_tenantproof.target import rolled_back
from tests.support import faults_settings, reference_settings

TRIED = ("TP512", "TP513", "TP514")
Connection = psycopg.Connection[object]


@dataclass
class Product:
    connection: Connection
    settings: Settings

    def judge(self, fault: str = "SELECT 1", control: str = "", session: str = "SELECT 1") -> dict[str, Result]:
        with rolled_back(self.connection):
            self.connection.execute(fault.encode())
            catalog = Catalog(read_snapshot(self.connection), self.settings)
            self.connection.execute(session.encode())
            trail = follow(self.connection, catalog)
        return {i: judge(i, catalog, trail=trail) for i in ((control,) if control else TRIED)}


@pytest.fixture
def reference(reference_database: str) -> Iterator[Product]:
    with psycopg.connect(reference_database, autocommit=True) as connection:
        yield Product(connection, reference_settings())


@pytest.fixture
def other(faults_database: str) -> Iterator[Product]:
    """Another product's log: by row, with a hash chain, its guards on rows and on partitions."""
    with psycopg.connect(faults_database, autocommit=True) as connection:
        yield Product(connection, faults_settings())


def test_both_logs_hold_and_are_left_as_they_were(reference: Product, other: Product) -> None:
    for product in (reference, other):
        count = "SELECT count(*) FROM public.audit_events"
        before = product.connection.execute(count.encode()).fetchone(), digest(read_snapshot(product.connection))
        for found in product.judge().values():
            assert found.outcome is Outcome.PASSED, (found.control, found.reason, found.findings)
        catalog = Catalog(read_snapshot(product.connection), product.settings)
        trail = follow(product.connection, catalog)
        assert trail.events.shown >= 6 * (len([t for t in catalog.tenant_tables if not t.is_partition]))
        assert (product.connection.execute(count.encode()).fetchone(), digest(catalog.snapshot)) == before


def _faults() -> list[tuple[str, str]]:
    declared = ((i, control_of(functions()[i])) for i in TRIED)
    return [(i, fault.sql) for i, found in declared if found for fault in found.faults]


@pytest.mark.parametrize(("control", "fault"), _faults())
@pytest.mark.parametrize("name", ["reference", "other"])
def test_each_declared_fault_is_found(name: str, control: str, fault: str, request: pytest.FixtureRequest) -> None:
    product: Product = request.getfixturevalue(name)
    catalog = Catalog(read_snapshot(product.connection), product.settings)
    sql = fill(fault, placeholders(catalog, "x"))
    assert sql
    found = product.judge(sql, control)[control]
    assert found.outcome is Outcome.FAILED, (found.reason, sql)


FAULTS = {
    "ALTER TABLE audit_events_default DISABLE TRIGGER append_only": ("TP513", "by TRUNCATE"),
    "CREATE OR REPLACE FUNCTION tenantproof.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN IF session_user = current_user THEN RETURN old; END IF;"
    " RAISE EXCEPTION 'no' USING ERRCODE = 'TP001'; END $$": ("TP513", "the session's own role changed it"),
    "CREATE OR REPLACE FUNCTION tenantproof.audit_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
    " $$ BEGIN RETURN NULL; END $$": ("TP512", "INSERT left no event"),
    "CREATE POLICY x ON audit_events FOR INSERT TO service_role WITH CHECK (true);"
    "GRANT INSERT ON audit_events TO service_role": ("TP513", "service_role may INSERT"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, reference: Product) -> None:
    control, words = FAULTS[fault]
    found = reference.judge(f"SET LOCAL search_path = public; {fault}", control)[control]
    assert any(words in finding.detail for finding in found.findings), found


def test_a_guard_that_fails_by_accident_is_no_guard(reference: Product) -> None:
    """An error that is not raised on purpose says nothing of what the next version of the function does."""
    found = reference.judge(
        "CREATE OR REPLACE FUNCTION tenantproof.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM 1 / 0; RETURN NULL; END $$",
        "TP513",
    )["TP513"]
    assert (found.outcome, "22012" in found.reason) == (Outcome.NOT_RUN, True)


def test_a_session_that_cannot_see_the_log_proves_nothing(reference: Product) -> None:
    fault = "CREATE ROLE tp_blind; GRANT SELECT ON public.audit_events TO tp_blind"
    for found in reference.judge(fault, session="SET LOCAL ROLE tp_blind").values():
        assert (found.outcome, "past row security" in found.reason) == (Outcome.NOT_RUN, True), found


def test_a_migration_role_without_superuser_reaches_the_guard(reference: Product) -> None:
    """It can become the log's owner, which is enough for the guard, and says what it could not try."""
    found = reference.judge(
        "CREATE ROLE tp_migrator BYPASSRLS; GRANT app_owner, tenantproof_audit, anon, authenticated, service_role,"
        " app_scoped TO tp_migrator; GRANT SELECT ON public.audit_events TO tp_migrator;"
        "GRANT USAGE ON SCHEMA auth, app TO tp_migrator",
        "TP513",
        "SET LOCAL SESSION AUTHORIZATION tp_migrator",
    )["TP513"]
    assert found.outcome in (Outcome.PASSED, Outcome.NOT_RUN), found.findings
    assert not found.findings


TIMES = {
    "SELECT 1": Outcome.PASSED,
    "'2199-01-01'": Outcome.FAILED,
    "clock_timestamp() + interval '5 minutes'": Outcome.FAILED,
    "clock_timestamp() - interval '5 minutes'": Outcome.FAILED,
    "clock_timestamp() - interval '1 second'": Outcome.PASSED,
}


@pytest.mark.parametrize("at", TIMES)
def test_events_out_of_order_are_found(at: str, reference: Product) -> None:
    event = (
        "INSERT INTO public.audit_events (at, tenant_id, actor, actor_source, database_role, table_schema, table_name,"
        " operation, key_columns) VALUES ({}, gen_random_uuid(), 'x', 'jwt', 'x', 'x', 'units', 'DELETE', '{{}}')"
    )
    connection = reference.connection
    with rolled_back(connection):
        if at != "SELECT 1":  # out of order is what comes after one of just now, however old the others are
            connection.execute(f"{event.format('clock_timestamp()')}; {event.format(at)}".encode())
        catalog = Catalog(read_snapshot(connection), reference.settings)
        found = judge("TP516", catalog, order_of_events=order(connection, catalog, 30.0))
    expected = TIMES[at]
    assert found.outcome is expected, (found.reason, found.findings)


def test_an_unreadable_log_is_not_in_order(reference: Product) -> None:
    connection = reference.connection
    catalog = Catalog(read_snapshot(connection), reference.settings)
    with rolled_back(connection):
        connection.execute("SET LOCAL ROLE authenticated")
        found = judge("TP516", catalog, order_of_events=order(connection, catalog, 30.0))
    assert found.outcome is Outcome.NOT_RUN, found
