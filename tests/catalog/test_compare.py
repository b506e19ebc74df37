"""Whatever differs from what was declared is named; what weakens nothing is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, Snapshot, read_snapshot, to_json
from pytest_tenantproof.catalog.compare import differences
from pytest_tenantproof.config import Settings, load_settings
from pytest_tenantproof.controls.judge import judge
from pytest_tenantproof.declared import Declared, declared_catalog
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import find_bin, rolled_back, start
from tests.support import reference_settings

CHANGES = {
    "DROP POLICY {policy} ON messages": ("public.messages", True),
    "CREATE POLICY extra ON messages FOR SELECT USING (true)": ("public.messages extra", True),
    "ALTER TABLE messages NO FORCE ROW LEVEL SECURITY": ("public.messages", True),
    "ALTER TABLE messages ALTER body DROP NOT NULL": ("public.messages.body", True),
    "ALTER TABLE messages ALTER author SET DEFAULT 'me'": ("public.messages.author", False),
    "ALTER TABLE messages ADD COLUMN extra text": ("public.messages.extra", False),
    "ALTER TABLE messages DROP CONSTRAINT messages_unit_fk": ("public.messages messages_unit_fk", True),
    "ALTER TABLE messages DISABLE TRIGGER ALL": ("public.messages", True),
    "GRANT SELECT ON messages TO anon": ("public.messages to anon", True),
    "GRANT SELECT (body) ON messages TO anon": ("public.messages.body to anon", True),
    "CREATE ROLE stranger BYPASSRLS": ("stranger", True),
    "ALTER ROLE authenticated CREATEROLE": ("authenticated", True),
    "GRANT service_role TO authenticated": ("authenticated in service_role", True),
    "CREATE OR REPLACE FUNCTION app.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE SET search_path = ''"
    " AS $$ SELECT NULL::uuid $$": ("app.current_tenant_id()", True),
    "ALTER FUNCTION app.current_tenant_id() SECURITY DEFINER": ("app.current_tenant_id()", True),
    "CREATE FUNCTION app.more() RETURNS int LANGUAGE sql AS 'SELECT 1'": ("app.more()", True),
    "CREATE TABLE public.more (id int)": ("public.more", True),
    "CREATE VIEW public.more AS SELECT 1 AS one": ("public.more", True),
    "CREATE SCHEMA more": None,
    "CREATE PUBLICATION more FOR TABLE messages": ("more", True),
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO anon": ("default privileges on tables", True),
    "ALTER ROLE authenticated SET row_security = off": ("authenticated row_security", True),
    "CREATE TYPE public.more AS ENUM ('a')": ("public.more", False),
    "DROP INDEX units_label_key_by_development": ("units_label_key_by_development", True),
    "COMMENT ON TABLE messages IS 'a comment'": None,
    "CREATE INDEX more ON messages (created_at)": None,
    "ALTER TABLE messages ALTER body SET STATISTICS 500": None,
    "GRANT SELECT ON messages TO postgres": None,
    "ANALYZE messages": None,
}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return reference_settings()


@pytest.fixture(scope="module")
def declared(settings: Settings) -> Snapshot:
    found = declared_catalog(settings, 18)
    assert found.source == "migrations/ on PostgreSQL " + find_bin(18).version
    assert found.snapshot is not None
    return found.snapshot


@pytest.fixture
def connection(reference_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(reference_database, autocommit=True) as found:
        yield found


def test_the_deployed_product_is_as_declared(
    connection: psycopg.Connection[Any], declared: Snapshot, settings: Settings
) -> None:
    catalog = Catalog(read_snapshot(connection), settings)
    assert differences(declared, catalog.snapshot, settings.schemas, catalog.is_admin) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_named(
    change: str, connection: psycopg.Connection[Any], declared: Snapshot, settings: Settings
) -> None:
    policy = next(t for t in declared.tables if t.name == "public.messages").policies[0].name
    with rolled_back(connection):
        connection.execute(change.replace("{policy}", policy).encode())
        catalog = Catalog(read_snapshot(connection), settings)
    found = differences(declared, catalog.snapshot, settings.schemas, catalog.is_admin)
    expected = CHANGES[change]
    if expected is None:
        assert found == []
        return
    name, weakens = expected
    assert [d for d in found if name in d.object and d.weakens is weakens], found


def test_a_lock_stands_in_for_migrations(
    connection: psycopg.Connection[Any], tmp_path: Path, declared: Snapshot
) -> None:
    config = tmp_path / "tenantproof.toml"
    config.write_text(Path(reference_settings().source).read_text())
    settings = load_settings(config)
    catalog = Catalog(read_snapshot(connection), settings)
    nothing = judge("TP911", catalog, declared=declared_catalog(settings, 18))
    assert nothing.outcome is Outcome.NOT_RUN
    assert "tenantproof init --lock" in nothing.reason
    (tmp_path / "tenantproof.lock").write_bytes(to_json(declared))
    locked = declared_catalog(settings, 18)
    assert locked.source == "tenantproof.lock"
    assert judge("TP911", catalog, declared=locked).outcome is Outcome.PASSED
    assert declared_catalog(settings, 17).snapshot is None
    (tmp_path / "tenantproof.lock").write_bytes(b"{}")
    assert declared_catalog(settings, 18).snapshot is None


def test_migrations_that_cannot_be_applied_prove_nothing(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001_bad.sql").write_text("SELECT no_such_function();")
    (tmp_path / "tenantproof.toml").write_text("[tenantproof]\n")
    found = declared_catalog(load_settings(tmp_path / "tenantproof.toml"), 18)
    assert found.snapshot is None
    assert "could not be applied" in found.reason


def test_another_major_version_is_declared_by_its_own_server(settings: Settings) -> None:
    with start(find_bin(17)) as server:
        apply(server.dsn(), migrations_folder())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            catalog = Catalog(read_snapshot(connection), settings)
    found: Declared = declared_catalog(settings, 17)
    assert judge("TP911", catalog, declared=found).outcome is Outcome.PASSED
    assert judge("TP912", catalog, declared=found).outcome is Outcome.PASSED
    assert declared_catalog(settings, 12).snapshot is None
