"""Policies are combined as Postgres combines them, and read together with what they stand on."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.config import Settings, settings_from
from pytest_tenantproof.policy import Prover, World
from pytest_tenantproof.target import rolled_back
from tests.policy.conftest import CONFIG, HERE, TABLE, Proofs, policy_settings, proofs

pytestmark = pytest.mark.xdist_group("policy")

MINE = "tenant_id = app.tenant()"
SAFE = f"CREATE POLICY safe ON one TO authenticated USING ({MINE});"


@contextmanager
def changed(dsn: str, sql: str, settings: Settings | None = None) -> Iterator[Proofs]:
    """What the prover says after a change that is rolled back. The table `one` is there."""
    chosen = settings or policy_settings()
    with psycopg.connect(dsn, autocommit=True) as connection, rolled_back(connection):
        connection.execute((TABLE.format(t="one") + sql).encode())
        snapshot = read_snapshot(connection)
        yield Proofs(Catalog(snapshot, chosen), Prover(World(snapshot, chosen)))


@pytest.mark.parametrize(
    ("policies", "open_"),
    [
        ("", set()),
        ("CREATE POLICY a ON one FOR SELECT TO authenticated USING (true)", {"SELECT USING"}),
        ("CREATE POLICY a ON one FOR DELETE TO authenticated USING (true)", {"DELETE USING"}),
        ("CREATE POLICY a ON one FOR INSERT TO authenticated WITH CHECK (true)", {"INSERT WITH CHECK"}),
        (f"CREATE POLICY a ON one FOR UPDATE TO authenticated USING ({MINE}) WITH CHECK (true)", {"UPDATE WITH CHECK"}),
        (f"CREATE POLICY a ON one FOR UPDATE TO authenticated USING (true) WITH CHECK ({MINE})", {"UPDATE USING"}),
        (f"CREATE POLICY a ON one FOR UPDATE TO authenticated USING ({MINE})", set()),
        (
            f"CREATE POLICY a ON one TO authenticated USING ({MINE}) WITH CHECK (label IS NOT NULL)",
            {"INSERT WITH CHECK", "UPDATE WITH CHECK"},
        ),
        ("CREATE POLICY a ON one TO anon USING (true)", set()),
        ("CREATE POLICY a ON one FOR SELECT USING (true)", {"SELECT USING"}),
        ("CREATE POLICY a ON one FOR SELECT TO staff USING (true)", {"SELECT USING"}),
        ("CREATE POLICY a ON one FOR SELECT TO other_staff USING (true)", set()),
        (
            "GRANT other_staff TO authenticated WITH INHERIT FALSE;"
            "CREATE POLICY a ON one FOR SELECT TO other_staff USING (true)",
            set(),
        ),
        (
            f"CREATE POLICY a ON one FOR SELECT TO authenticated USING (true);"
            f"CREATE POLICY b ON one AS RESTRICTIVE TO authenticated USING ({MINE})",
            set(),
        ),
        (
            f"CREATE POLICY a ON one FOR SELECT TO authenticated USING (true);"
            f"CREATE POLICY b ON one AS RESTRICTIVE TO anon USING ({MINE})",
            {"SELECT USING"},
        ),
        (
            f"CREATE POLICY a ON one FOR SELECT TO authenticated USING (true);"
            f"CREATE POLICY b ON one AS RESTRICTIVE FOR DELETE TO authenticated USING ({MINE})",
            {"SELECT USING"},
        ),
        (
            f"CREATE POLICY a ON one TO authenticated USING (true);"
            f"CREATE POLICY b ON one AS RESTRICTIVE TO authenticated USING ({MINE}) WITH CHECK (NOT archived)",
            {"INSERT WITH CHECK", "UPDATE WITH CHECK"},
        ),
        (
            "CREATE POLICY a ON one FOR SELECT TO authenticated USING (tenant_id = shared_tenant);"
            "CREATE POLICY b ON one AS RESTRICTIVE TO authenticated USING (shared_tenant = app.tenant())",
            set(),
        ),
        (
            f"CREATE POLICY a ON one FOR SELECT TO authenticated USING ({MINE});"
            f"CREATE POLICY b ON one FOR SELECT TO authenticated USING (archived)",
            {"SELECT USING"},
        ),
    ],
)
def test_combination(policy_server: str, policies: str, open_: set[str]) -> None:
    with changed(policy_server, policies) as proofs:
        found = proofs.gaps("one")
    assert {" ".join(gap.split(":")[0].split()[:-1]) for gap in found} == open_


def test_membership_rows_may_be_the_users_own_but_not_be_made_so(policy_server: str) -> None:
    with changed(policy_server, "CREATE POLICY a ON members TO authenticated USING (user_id = auth.uid())") as proofs:
        found = proofs.gaps("members")
    assert {gap.split(" a:")[0] for gap in found} == {"INSERT WITH CHECK", "UPDATE WITH CHECK"}


def test_child_tables_are_bound_through_their_parent(policy_server: str) -> None:
    sound = "EXISTS (SELECT FROM projects p WHERE p.id = boards.project_id AND p.tenant_id = app.tenant())"
    loose = "EXISTS (SELECT FROM projects p WHERE p.tenant_id = app.tenant())"
    with changed(policy_server, f"CREATE POLICY a ON boards TO authenticated USING ({sound})") as proofs:
        assert not proofs.gaps("boards")
    with changed(policy_server, f"CREATE POLICY a ON boards TO authenticated USING ({loose})") as proofs:
        assert proofs.gaps("boards")
    nullable = "ALTER TABLE boards ALTER project_id DROP NOT NULL;"
    with changed(policy_server, f"{nullable}CREATE POLICY a ON boards TO authenticated USING ({sound})") as proofs:
        assert proofs.gaps("boards")


@pytest.mark.parametrize(
    "weaker",
    [
        "ALTER TABLE one ALTER project_id DROP NOT NULL",
        "ALTER TABLE one DROP CONSTRAINT one_tenant_id_project_id_fkey",
        "ALTER TABLE one ALTER CONSTRAINT one_tenant_id_project_id_fkey NOT ENFORCED",
        "ALTER TABLE one ALTER CONSTRAINT one_tenant_id_project_id_fkey DEFERRABLE",
        "ALTER TABLE one DISABLE TRIGGER ALL",
    ],
)
def test_a_parents_tenant_counts_only_by_a_reference_that_holds(policy_server: str, weaker: str) -> None:
    policy = (
        "CREATE POLICY a ON one FOR SELECT TO authenticated"
        " USING (project_id IN (SELECT p.id FROM projects p WHERE p.tenant_id = app.tenant()))"
    )
    with changed(policy_server, policy) as proofs:
        assert not proofs.gaps("one")
    with changed(policy_server, f"{policy}; {weaker}") as proofs:
        assert proofs.gaps("one")


HEAD = "CREATE OR REPLACE FUNCTION app.tenant() RETURNS uuid LANGUAGE sql STABLE SET search_path = '' AS "


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("SELECT (auth.jwt() -> 'user_metadata' ->> 'tenant_id')::uuid", "user_metadata"),
        ("SELECT current_setting('app.tenant', true)::uuid", "app.tenant"),
        (
            "SELECT coalesce(nullif(auth.jwt() ->> 'tenant_id', ''), current_setting('app.dev', true))::uuid",
            "app.dev",
        ),
        ("SELECT '00000000-0000-0000-0000-000000000001'::uuid", "constant"),
        (
            "SELECT coalesce(auth.jwt() ->> 'tenant_id', '00000000-0000-0000-0000-000000000001')::uuid",
            "constant",
        ),
        ("SELECT tenant_id FROM public.members LIMIT 1", "no membership"),
        ("SELECT id FROM public.tenants WHERE slug = auth.jwt() ->> 'slug'", "no membership"),
        ("SELECT max(tenant_id::text)::uuid FROM public.members WHERE user_id = auth.uid()", "aggregate"),
        ("SELECT gen_random_uuid()", "chance"),
    ],
)
def test_an_accessor_that_anybody_can_steer_is_not_trusted(policy_server: str, body: str, reason: str) -> None:
    with changed(policy_server, f"{HEAD} $${body}$$") as proofs:
        found = proofs.prover.trust.weaknesses
    assert any("app.tenant()" in (w.function, w.expression) and reason in w.reason for w in found), found


@pytest.mark.parametrize(
    "body",
    [
        "SELECT nullif(auth.jwt() ->> 'tenant_id', '')::uuid",
        "SELECT tenant_id FROM public.members WHERE user_id = auth.uid() LIMIT 1",
        "SELECT CASE WHEN auth.role() = 'authenticated' THEN (auth.jwt() ->> 'tenant_id')::uuid END",
        "WITH claims AS (SELECT auth.jwt() AS c) SELECT (c ->> 'tenant_id')::uuid FROM claims",
    ],
)
def test_an_accessor_from_claims_or_memberships_is_trusted(policy_server: str, body: str) -> None:
    with changed(policy_server, f"{HEAD} $${body}$$; {SAFE}") as proofs:
        assert not proofs.prover.trust.weaknesses
        assert not proofs.gaps("one")


DEFINER = "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS"


@pytest.mark.parametrize(
    ("signature", "body", "bound"),
    [
        (
            "f(t uuid) RETURNS boolean",
            "SELECT EXISTS (SELECT FROM public.members m WHERE m.tenant_id = t AND m.user_id = auth.uid())",
            True,
        ),
        ("f() RETURNS SETOF uuid", "SELECT tenant_id FROM public.members WHERE user_id = auth.uid()", True),
        ("f() RETURNS SETOF public.projects", "SELECT * FROM public.projects WHERE tenant_id = app.tenant()", True),
        ("f() RETURNS bigint", "SELECT count(*) FROM public.projects WHERE tenant_id = app.tenant()", True),
        ("f(u uuid) RETURNS boolean", "SELECT EXISTS (SELECT FROM public.members m WHERE m.user_id = u)", False),
        ("f(t uuid) RETURNS boolean", "SELECT EXISTS (SELECT FROM public.members m WHERE m.tenant_id = t)", False),
        ("f() RETURNS bigint", "SELECT count(*) FROM public.projects", False),
        (
            "f() RETURNS SETOF public.projects",
            "SELECT * FROM public.projects WHERE current_user = 'authenticated'",
            False,
        ),
        ("f(e jsonb) RETURNS jsonb", "SELECT e", False),
        (
            "f(c text) RETURNS boolean",
            "SELECT EXISTS (SELECT FROM public.plans p JOIN public.members m ON m.role = p.code WHERE p.code = c AND m.user_id = auth.uid())",
            True,
        ),
        (
            "f(c text) RETURNS boolean",
            "SELECT EXISTS (SELECT FROM public.plans p JOIN public.members m ON m.role = p.code WHERE p.code = c)",
            False,
        ),
        (
            "f(c text) RETURNS boolean",
            "SELECT EXISTS (SELECT FROM public.plans p LEFT JOIN public.members m ON m.role = p.code AND m.user_id = auth.uid() WHERE p.code = c)",
            False,
        ),
        (
            "f(c text) RETURNS boolean",
            "SELECT EXISTS (SELECT FROM public.boards p JOIN public.members m ON m.role = p.title WHERE m.user_id = auth.uid())",
            False,
        ),
        ("f(c text) RETURNS boolean", "SELECT EXISTS (SELECT FROM public.plans p WHERE p.code = c)", False),
        (
            "f() RETURNS text",
            "SELECT pg_catalog.pg_read_file('/etc/passwd') FROM public.members WHERE user_id = auth.uid()",
            False,
        ),
        (
            "f() RETURNS json",
            "SELECT json_build_object('n', (SELECT count(*) FROM public.projects)) FROM public.members WHERE user_id = auth.uid()",
            False,
        ),
        (
            "f() RETURNS SETOF uuid",
            "SELECT tenant_id FROM public.members WHERE user_id = auth.uid() AND (SELECT name FROM public.projects LIMIT 1) LIKE 'a%'",
            False,
        ),
        (
            "f() RETURNS SETOF uuid",
            "SELECT tenant_id FROM public.members WHERE user_id = auth.uid() ORDER BY (SELECT name FROM public.projects LIMIT 1)",
            False,
        ),
        (
            "f() RETURNS SETOF uuid",
            "SELECT tenant_id FROM public.members WHERE user_id = auth.uid() EXCEPT SELECT id FROM public.tenants",
            False,
        ),
        (
            "f() RETURNS SETOF uuid",
            "SELECT m.tenant_id FROM public.members m, public.projects p WHERE m.user_id = auth.uid()",
            False,
        ),
    ],
)
def test_definer_functions_tell_callers_of_themselves(
    policy_server: str, signature: str, body: str, bound: bool
) -> None:
    with changed(policy_server, f"CREATE FUNCTION app.{signature} {DEFINER} $${body}$$") as proofs:
        function = next(f for f in proofs.catalog.own_functions if f.name == "app.f")
        assert proofs.prover.is_caller_bound(function) is bound, proofs.prover.leaks(function)


@pytest.mark.parametrize(
    ("body", "bound"),
    [
        ("BEGIN RETURN QUERY SELECT tenant_id FROM public.members WHERE user_id = auth.uid(); END", True),
        ("BEGIN IF auth.uid() IS NULL THEN RETURN; END IF; RETURN QUERY SELECT id FROM public.tenants; END", False),
        ("BEGIN RETURN QUERY EXECUTE 'SELECT id FROM public.tenants'; END", False),
        ("DECLARE n bigint; BEGIN SELECT count(*) INTO n FROM public.tenants; RETURN; END", False),
        ("BEGIN DELETE FROM public.projects WHERE tenant_id = app.tenant(); RETURN; END", False),
        (
            "BEGIN PERFORM set_config('request.jwt.claims', '', true); RETURN QUERY SELECT tenant_id FROM public.members WHERE user_id = auth.uid(); END",
            False,
        ),
    ],
)
def test_plpgsql_definers(policy_server: str, body: str, bound: bool) -> None:
    head = "CREATE FUNCTION app.f() RETURNS SETOF uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''"
    with changed(policy_server, f"{head} AS $${body}$$") as proofs:
        function = proofs.catalog.functions["app.f()"]
        assert proofs.prover.is_caller_bound(function) is bound, proofs.prover.leaks(function)


def test_other_column_names_and_several_of_them(policy_server: str) -> None:
    config = CONFIG.replace("[tenantproof]", '[tenantproof]\ntenant_column = ["tenant_id", "org_id"]')
    settings = settings_from(config, source="test", root=HERE)
    sql = (
        "CREATE TABLE teams (id uuid PRIMARY KEY, org_id uuid NOT NULL); ALTER TABLE teams ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY a ON teams FOR SELECT TO authenticated USING (org_id = app.tenant());"
        "CREATE POLICY b ON teams FOR DELETE TO authenticated USING (id = app.tenant());"
    )
    with changed(policy_server, sql, settings) as proofs:
        assert [gap.split()[0] for gap in proofs.gaps("teams")] == ["DELETE"]


PROFILES = """
CREATE TABLE profiles (id uuid PRIMARY KEY REFERENCES auth.users, tenant_id uuid NOT NULL REFERENCES tenants);
CREATE POLICY a ON one FOR SELECT TO authenticated
  USING (tenant_id = (SELECT p.tenant_id FROM profiles p WHERE p.id = auth.uid()));
CREATE POLICY b ON one FOR DELETE TO authenticated
  USING (tenant_id = (SELECT p.tenant_id FROM profiles p WHERE p.tenant_id = auth.uid()));
CREATE POLICY c ON profiles FOR UPDATE TO authenticated USING (id = auth.uid());
"""


def test_profiles_that_name_their_tenant(policy_server: str) -> None:
    settings = settings_from(CONFIG.replace("public.members", "public.profiles"), source="test", root=HERE)
    with changed(policy_server, PROFILES, settings) as proofs:
        assert [gap.split()[0] for gap in proofs.gaps("one")] == ["DELETE"]
        # A user who may rewrite the tenant of its own profile may move into any tenant.
        assert [gap.split(" c:")[0] for gap in proofs.gaps("profiles")] == ["UPDATE WITH CHECK"]


USERS = """
CREATE TABLE people (id uuid PRIMARY KEY REFERENCES auth.users, name text);
CREATE POLICY own ON people TO authenticated USING (id = auth.uid()) WITH CHECK (id = (SELECT auth.uid()));
CREATE POLICY colleagues ON people FOR SELECT TO authenticated USING (EXISTS (SELECT FROM members m
  WHERE m.user_id = people.id AND m.tenant_id = app.tenant()));
CREATE POLICY shared ON people FOR SELECT TO authenticated USING (EXISTS (SELECT FROM members mine, members theirs
  WHERE mine.user_id = auth.uid() AND theirs.tenant_id = mine.tenant_id AND theirs.user_id = people.id));
CREATE POLICY changes ON people FOR UPDATE TO authenticated USING (EXISTS (SELECT FROM members m
  WHERE m.user_id = people.id AND m.tenant_id = app.tenant()));
CREATE POLICY any_member ON people FOR SELECT TO authenticated USING (EXISTS (SELECT FROM members m
  WHERE m.user_id = people.id));
CREATE POLICY of_others ON people FOR SELECT TO authenticated USING (EXISTS (SELECT FROM members mine, members theirs
  WHERE mine.user_id = auth.uid() AND theirs.tenant_id <> mine.tenant_id AND theirs.user_id = people.id));
CREATE POLICY by_name ON people FOR SELECT TO authenticated USING (EXISTS (SELECT FROM members m
  WHERE m.tenant_id = app.tenant() AND m.user_id::text = people.name));
CREATE POLICY joins ON people FOR INSERT TO authenticated WITH CHECK (true);
CREATE POLICY joins ON members FOR INSERT TO authenticated WITH CHECK (user_id = auth.uid());
"""


def test_users_show_themselves_and_their_colleagues(policy_server: str) -> None:
    config = CONFIG.replace("[tenantproof]", '[tenantproof]\nuser_tables = ["auth.users", "public.people"]')
    with changed(policy_server, USERS, settings_from(config, source="test", root=HERE)) as proofs:
        open_to = {gap.split(":")[0].split()[-1] for gap in proofs.gaps("people")}
        assert open_to == {"any_member", "of_others", "by_name", "joins", "changes"}
        # Who may name himself a member may join any tenant, though the row is his own.
        assert [gap.split(":")[0] for gap in proofs.gaps("members")] == ["INSERT WITH CHECK joins"]


def test_tenant_from_a_setting_that_only_the_back_end_sets(policy_server: str) -> None:
    sql = "CREATE POLICY a ON one TO authenticated USING (tenant_id = (SELECT current_setting('app.tenant'))::uuid)"
    expression = """["current_setting('app.tenant')::uuid"]\ntrusted_settings = ["app.tenant"]"""
    config = CONFIG.replace('["app.tenant()", "app.require_tenant()"]', expression)
    with changed(policy_server, sql, settings_from(config, source="test", root=HERE)) as proofs:
        assert not proofs.gaps("one")
    untrusted = config.replace('trusted_settings = ["app.tenant"]', "")
    with changed(policy_server, sql, settings_from(untrusted, source="test", root=HERE)) as proofs:
        assert proofs.gaps("one")
        assert proofs.prover.trust.weaknesses


@pytest.mark.parametrize(
    "using",
    [
        "auth.jwt() -> 'app_metadata' -> 'tenants' ? tenant_id::text",
        "tenant_id IN (SELECT jsonb_array_elements_text(auth.jwt() -> 'app_metadata' -> 'tenants')::uuid)",
        "tenant_id::text IN (SELECT jsonb_array_elements_text(auth.jwt() -> 'app_metadata' -> 'tenants'))",
        "tenant_id = ANY (ARRAY(SELECT jsonb_array_elements_text(auth.jwt() -> 'app_metadata' -> 'tenants')::uuid))",
    ],
)
def test_a_list_of_tenants_in_the_claims(policy_server: str, using: str) -> None:
    listed = """["jsonb_array_elements_text(auth.jwt() -> 'app_metadata' -> 'tenants')::uuid"]"""
    config = CONFIG.replace('["app.tenant()", "app.require_tenant()"]', listed)
    settings = settings_from(config, source="test", root=HERE)
    with changed(policy_server, f"CREATE POLICY a ON one TO authenticated USING ({using})", settings) as proofs:
        assert not proofs.gaps("one")
    wrong = using.replace("'tenants'", "'groups'")
    with changed(policy_server, f"CREATE POLICY a ON one TO authenticated USING ({wrong})", settings) as proofs:
        assert proofs.gaps("one")


@pytest.mark.parametrize(
    ("default", "own"),
    [
        ("app.tenant()", True),
        ("(SELECT app.tenant())", True),
        ("nullif(auth.jwt() -> 'app_metadata' ->> 'tenant_id', '')::uuid", True),
        ("coalesce(app.tenant(), '00000000-0000-0000-0000-000000000001')", False),
        ("'00000000-0000-0000-0000-000000000001'", False),
        ("(auth.jwt() -> 'user_metadata' ->> 'tenant_id')::uuid", False),
        ("gen_random_uuid()", False),
        ("app.no_such()", False),
    ],
)
def test_a_default_is_the_callers_tenant_or_is_not(policy_server: str, default: str, own: bool) -> None:
    found = proofs(policy_server)
    table = found.catalog.tables["public.projects"]
    assert found.prover.is_callers_tenant(table, "tenant_id", default, "authenticated") is own
