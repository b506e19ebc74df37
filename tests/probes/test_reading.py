"""What is found by reading alone: rows that constraints forbid, and a live target's own tenants."""

from collections.abc import Iterator

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.probes import probe_live, scan
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.target import rolled_back
from tests.support import faults_settings, reference_settings

MISALIGNED = """SET LOCAL session_replication_role = replica;
INSERT INTO messages (tenant_id, development_id, unit_id, author, body)
SELECT (SELECT id FROM tenants WHERE id <> m.tenant_id LIMIT 1), m.development_id, m.unit_id, 'x', 'x'
FROM messages m LIMIT 1;
SET LOCAL session_replication_role = origin"""


@pytest.fixture
def connection(reference_database: str) -> Iterator[psycopg.Connection[object]]:
    with psycopg.connect(reference_database, autocommit=True) as connection, rolled_back(connection):
        yield connection


def test_rows_loaded_past_a_valid_key_are_found(connection: psycopg.Connection[object]) -> None:
    catalog = Catalog(read_snapshot(connection), reference_settings())
    clean = scan(connection, catalog)
    assert clean
    assert judge("TP311", catalog, stored=clean).outcome is Outcome.PASSED
    with savepoint(connection):
        connection.execute(MISALIGNED.encode())
        assert Catalog(read_snapshot(connection), reference_settings()).snapshot == catalog.snapshot
        found = judge("TP311", catalog, stored=scan(connection, catalog))
    assert found.outcome is Outcome.FAILED
    assert {f.object for f in found.findings} == {"public.messages"}


def test_a_row_of_no_tenant_is_found(connection: psycopg.Connection[object]) -> None:
    """PostgreSQL 18 takes NOT NULL ... NOT VALID: the column reads as not null, and older rows are what they were."""
    connection.execute(
        "ALTER TABLE units DISABLE TRIGGER ALL; ALTER TABLE units ALTER tenant_id DROP NOT NULL;"
        "INSERT INTO units (tenant_id, development_id, label) SELECT NULL, id, 'x' FROM developments LIMIT 1;"
        "ALTER TABLE units ADD CONSTRAINT units_tenant_id_not_null NOT NULL tenant_id NOT VALID"
    )
    catalog = Catalog(read_snapshot(connection), reference_settings())
    found = judge("TP311", catalog, stored=scan(connection, catalog))
    assert [(f.object, "tenant_id is not null" in f.detail) for f in found.findings] == [("public.units", True)]


def test_a_public_bucket_of_tenants_files_is_found(faults_database: str) -> None:
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        catalog = Catalog(read_snapshot(connection), faults_settings())
        assert judge("TP311", catalog, stored=scan(connection, catalog)).outcome is Outcome.PASSED
        connection.execute("UPDATE storage.buckets SET public = true")
        found = judge("TP311", catalog, stored=scan(connection, catalog))
    assert [f.object for f in found.findings] == ["storage.buckets"]


def test_a_session_bound_by_row_security_learns_nothing_of_stored_rows(connection: psycopg.Connection[object]) -> None:
    catalog = Catalog(read_snapshot(connection), reference_settings())
    connection.execute("SET LOCAL ROLE authenticated")
    assert judge("TP311", catalog, stored=scan(connection, catalog)).outcome is Outcome.NOT_RUN


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("SELECT 1", Outcome.PASSED),
        ("CREATE POLICY x ON units FOR SELECT TO authenticated USING (true)", Outcome.FAILED),
        (
            "DROP POLICY tenant_isolation ON units; CREATE POLICY x ON units USING (tenant_id IS NOT NULL)",
            Outcome.FAILED,
        ),
        ("DELETE FROM tenant_members; REVOKE authenticated FROM probe_role", Outcome.NOT_RUN),
    ],
)
def test_a_live_target_is_read_as_every_identity(
    connection: psycopg.Connection[object], fault: str, outcome: Outcome
) -> None:
    connection.execute(
        "CREATE ROLE probe_role NOINHERIT BYPASSRLS; GRANT anon, authenticated TO probe_role;"
        "GRANT app_scoped TO probe_role; GRANT USAGE ON SCHEMA public, app, auth TO probe_role;"
        "GRANT SELECT ON tenants, tenant_members TO probe_role;"
        "GRANT EXECUTE ON FUNCTION app.current_tenant_id() TO probe_role"
    )
    connection.execute(fault.encode())
    catalog = Catalog(read_snapshot(connection), reference_settings())
    connection.execute("SET SESSION AUTHORIZATION probe_role; SET LOCAL transaction_read_only = on")
    probed = probe_live(connection, catalog)
    connection.execute("RESET SESSION AUTHORIZATION")
    found = judge("TP321", catalog, live_probes=probed)
    assert found.outcome is outcome, (found.reason, [f.detail for f in found.findings])
    ids = [str(row[0]) for row in connection.execute("SELECT id FROM tenants").fetchall()]  # type: ignore[index]
    assert not [i for i in ids if i in repr(found)]
