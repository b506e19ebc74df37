"""What excuses a key or a default, and what looks like it and does not. On a product that is proven without them."""

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.catalog.expressions import is_constant
from pytest_tenantproof.controls.judge import judge
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import rolled_back
from tests.support import faults_settings

VIEW = "CREATE VIEW un WITH (security_invoker = true) AS SELECT * FROM units"
CHECK = "ALTER TABLE attachments ADD CHECK"
CROSSTAB = (
    "CREATE EXTENSION tablefunc SCHEMA extensions; CREATE FUNCTION public.pivot(q text) RETURNS int LANGUAGE plpgsql"
    " AS $$ BEGIN PERFORM extensions.crosstab({}); RETURN 1; END $$"
)
GROUP = "CREATE ROLE tp_readers; GRANT tp_readers TO authenticated; GRANT SELECT ON units TO tp_readers"
FACTORS = "CREATE TABLE private.factors (id int); CREATE POLICY factors"
WHEN = """DO $do$ BEGIN EXECUTE replace(replace(pg_get_functiondef('private.audit_row()'::regprocedure),
    'actor_id, old_row', 'actor_id, at, old_row'), 'auth.uid(), o', 'auth.uid(), coalesce({}, clock_timestamp()), o');
    END $do$"""
CHANGES = {
    "ALTER TABLE units ADD share_token text UNIQUE": ("TP111", Outcome.PASSED),
    "ALTER TABLE units ADD code text NOT NULL DEFAULT gen_random_uuid()::text UNIQUE": ("TP111", Outcome.PASSED),
    "ALTER TABLE units ADD code text UNIQUE": ("TP111", Outcome.FAILED),
    "ALTER TABLE units ADD tokens_left int UNIQUE": ("TP111", Outcome.FAILED),
    "ALTER TABLE tenants ADD deleted_at timestamptz; ALTER TABLE tenants DROP CONSTRAINT"
    " tenants_slug_key; CREATE UNIQUE INDEX ON tenants (slug) WHERE deleted_at IS NULL": ("TP118", Outcome.PASSED),
    'ALTER TABLE tenants ADD "deletedAt" timestamptz; ALTER TABLE tenants DROP CONSTRAINT tenants_slug_key;'
    ' CREATE UNIQUE INDEX ON tenants (slug) WHERE "deletedAt" IS NULL': ("TP118", Outcome.PASSED),
    "ALTER TABLE tenants ADD deleted_at timestamptz; ALTER TABLE tenants DROP CONSTRAINT tenants_slug_key;"
    " CREATE UNIQUE INDEX ON tenants (slug) WHERE deleted_at IS NOT NULL": ("TP118", Outcome.FAILED),
    "ALTER TABLE tenants DROP CONSTRAINT tenants_slug_key; CREATE UNIQUE INDEX ON tenants (slug) WHERE name <> 'x'": (
        "TP118",
        Outcome.FAILED,
    ),
    "ALTER TABLE developments ADD approved_by uuid, ADD FOREIGN KEY (tenant_id, approved_by) REFERENCES units"
    " (tenant_id, id)": ("TP109", Outcome.PASSED),
    "ALTER TABLE developments ADD lobby_id uuid, ADD FOREIGN KEY (tenant_id, lobby_id) REFERENCES units"
    " (tenant_id, id)": ("TP109", Outcome.FAILED),
    "ALTER TABLE memberships ALTER user_id SET DEFAULT '00000000-0000-0000-0000-000000000000'": (
        "TP119",
        Outcome.FAILED,
    ),
    "ALTER TABLE memberships ALTER user_id SET DEFAULT auth.uid()": ("TP119", Outcome.PASSED),
    "ALTER TABLE tenants DROP CONSTRAINT tenants_slug_key, ADD UNIQUE (slug) DEFERRABLE": ("TP118", Outcome.FAILED),
    "ALTER TABLE tenants ADD UNIQUE (slug) DEFERRABLE": ("TP118", Outcome.PASSED),
    f"{VIEW}; ALTER VIEW un ALTER tenant_id SET DEFAULT 'bbbbbbbb-0000-0000-0000-000000000000'": (
        "TP112",
        Outcome.FAILED,
    ),
    f"{VIEW}; ALTER VIEW un ALTER tenant_id SET DEFAULT (auth.jwt() ->> 'tenant_id')::uuid": ("TP112", Outcome.PASSED),
    f"{CHECK} (path LIKE '%' || tenant_id::text || '%')": ("TP116", Outcome.FAILED),
    f"{CHECK} (path ~ (tenant_id::text || '/') OR path ~ ('/' || tenant_id::text))": ("TP116", Outcome.FAILED),
    f"{CHECK} (strpos(path, tenant_id::text) > 0)": ("TP116", Outcome.FAILED),
    f"{CHECK} (tenant_id::text = ANY (string_to_array(path, '/')))": ("TP116", Outcome.FAILED),
    f"{CHECK} (strpos(path, tenant_id::text) = 1)": ("TP116", Outcome.PASSED),
    f"{CHECK} (path LIKE tenant_id::text || '/%')": ("TP116", Outcome.PASSED),
    f"{CHECK} (tenant_id IS NOT NULL AND path ~ '[.]pdf')": ("TP116", Outcome.PASSED),
    f"{CHECK} (path ~ ('^' || tenant_id::text || '/'))": ("TP116", Outcome.PASSED),
    "ALTER ROLE authenticated SET search_path = public, pg_catalog": ("TP266", Outcome.FAILED),
    "ALTER ROLE authenticated SET search_path = pg_catalog, public, pg_temp": ("TP266", Outcome.PASSED),
    "ALTER ROLE authenticator SET search_path = pg_temp, public": ("TP266", Outcome.FAILED),
    "ALTER ROLE authenticated LOGIN": ("TP228", Outcome.FAILED),
    "REVOKE anon, authenticated FROM authenticator; ALTER ROLE authenticated LOGIN": ("TP228", Outcome.PASSED),
    "CREATE EXTENSION tablefunc SCHEMA public": ("TP247", Outcome.FAILED),
    "CREATE EXTENSION tablefunc SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO authenticated": (
        "TP247",
        Outcome.PASSED,
    ),
    f"{CROSSTAB.format('q')}": ("TP243", Outcome.FAILED),
    f"{CROSSTAB.format('$q$select 1, 2, 3$q$')}": ("TP243", Outcome.PASSED),
    "CREATE TYPE public.span AS RANGE (subtype = numeric)": ("TP243", Outcome.PASSED),
    "CREATE FUNCTION public.read_any(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all'": (
        "TP243",
        Outcome.FAILED,
    ),
    'CREATE FUNCTION public.rx(q text) RETURNS xml LANGUAGE sql AS $$ SELECT pg_catalog."query_to_xml"(q, true, false,'
    " '') $$": ("TP243", Outcome.FAILED),
    "GRANT service_role TO reporting WITH ADMIN TRUE, SET FALSE, INHERIT FALSE": ("TP213", Outcome.FAILED),
    "GRANT service_role TO reporting WITH ADMIN FALSE, SET TRUE, INHERIT FALSE": ("TP213", Outcome.PASSED),
    f"{FACTORS} ON units AS RESTRICTIVE TO authenticated USING ((SELECT count(*) FROM private.factors) = 0)": (
        "TP209",
        Outcome.FAILED,
    ),
    f"{FACTORS} ON units AS RESTRICTIVE TO authenticated USING ((SELECT count(*) FROM private.factors) = 0);"
    " GRANT SELECT ON private.factors TO authenticated": ("TP209", Outcome.PASSED),
    "CREATE ROLE tp_later; GRANT tp_later TO authenticated; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON"
    " TABLES TO tp_later": ("TP217", Outcome.FAILED),
    f"{WHEN.format('current_setting($s$app.at$s$, true)::timestamptz')}": ("TP509", Outcome.FAILED),
    f"{WHEN.format('statement_timestamp()')}": ("TP509", Outcome.PASSED),
    GROUP: ("TP212", Outcome.PASSED),
    f"{GROUP} ": ("TP207", Outcome.PASSED),
    f"{GROUP}; CREATE ROLE tp_reader LOGIN; GRANT tp_readers TO tp_reader": ("TP212", Outcome.FAILED),
    f"{GROUP}; GRANT service_role TO tp_readers": ("TP212", Outcome.FAILED),
    f"{GROUP}; ALTER ROLE tp_readers BYPASSRLS": ("TP212", Outcome.FAILED),
    f"{GROUP}; GRANT TRUNCATE ON units TO tp_readers": ("TP215", Outcome.FAILED),
    f"{GROUP}; CREATE POLICY p ON units TO tp_readers USING (true)": ("TP204", Outcome.FAILED),
    "CREATE EXTENSION IF NOT EXISTS plpgsql; UPDATE pg_language SET lanpltrusted = true WHERE lanname = 'c';"
    " GRANT USAGE ON LANGUAGE c TO authenticated": ("TP221", Outcome.FAILED),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_judged_by_what_it_does(change: str, faults_database: str) -> None:
    control, outcome = CHANGES[change]
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        connection.execute(change.encode())
        assert judge(control, Catalog(read_snapshot(connection), faults_settings())).outcome is outcome


@pytest.mark.parametrize(
    ("text", "constant"),
    [
        ("'x'::text", True),
        ("'it''s'::character varying(20)", True),
        ("'00000000-0000-0000-0000-000000000000'::uuid", True),
        ("(-1)", True),
        ("7::bigint", True),
        ("", False),
        ("CURRENT_USER", False),
        ("auth.uid()", False),
        ("'a'::text || lower('b'::text)", False),
    ],
)
def test_a_constant_is_one_value(text: str, constant: bool) -> None:
    assert is_constant(text) is constant
