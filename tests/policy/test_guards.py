"""SECURITY DEFINER functions that check the caller first, and policies that rest on what a looked-up table shows."""

import psycopg
import pytest

from tests.policy.test_combined import changed

pytestmark = pytest.mark.xdist_group("policy")

READ = "RETURN QUERY SELECT p.id FROM public.projects p WHERE p.tenant_id = t;"
BOUND = (
    f"BEGIN IF NOT app.is_member(t) THEN RAISE EXCEPTION 'no'; END IF; {READ} END",
    f"BEGIN IF t IS NULL OR NOT app.is_member(t) THEN RETURN; END IF; {READ} END",
    f"DECLARE ok boolean; BEGIN SELECT app.is_member(t) INTO ok; IF NOT ok THEN RAISE 'no'; END IF; {READ} END",
    f"DECLARE ok boolean := app.is_member(t); BEGIN IF ok THEN {READ} END IF; END",
    f"DECLARE n bigint; BEGIN IF app.is_member(t) THEN SELECT count(*) INTO n FROM public.projects p"
    f" WHERE p.tenant_id = t; {READ} END IF; END",
    f"BEGIN IF t = app.tenant() THEN {READ} ELSE RAISE 'no'; END IF; END",
    f"BEGIN PERFORM 1 FROM public.members m WHERE m.tenant_id = t AND m.user_id = auth.uid();"
    f" IF NOT FOUND THEN RAISE 'no'; END IF; {READ} END",
    f"BEGIN IF app.is_member(t) THEN BEGIN {READ} EXCEPTION WHEN OTHERS THEN {READ} END; END IF; END",
)
LEAKING = (
    f"BEGIN {READ} END",
    f"BEGIN IF NOT app.is_member(t) THEN RAISE NOTICE 'no'; END IF; {READ} END",
    f"BEGIN IF NOT app.is_member(o) THEN RAISE EXCEPTION 'no'; END IF; {READ} END",
    f"BEGIN IF app.is_member(t) THEN RAISE EXCEPTION 'no'; END IF; {READ} END",
    f"BEGIN IF t <> app.tenant() THEN RAISE EXCEPTION 'no'; END IF; {READ} END",
    f"BEGIN {READ} IF NOT app.is_member(t) THEN RAISE EXCEPTION 'no'; END IF; END",
    f"BEGIN IF NOT app.is_member(t) THEN t := o; END IF; {READ} END",
    f"BEGIN IF NOT app.is_member(t) THEN RAISE EXCEPTION 'no'; END IF; t := o; {READ} END",
    f"BEGIN BEGIN IF NOT app.is_member(t) THEN RAISE 'no'; END IF; EXCEPTION WHEN OTHERS THEN NULL; END; {READ} END",
    f"DECLARE ok boolean; BEGIN SELECT true INTO ok FROM public.members m WHERE m.tenant_id = t AND"
    f" m.user_id = auth.uid(); IF NOT ok THEN RAISE 'no'; END IF; {READ} END",
    f"BEGIN IF NOT app.any_member(t) THEN RAISE EXCEPTION 'no'; END IF; {READ} END",
    f"BEGIN IF NOT app.is_member(t) AND t <> o THEN RAISE EXCEPTION 'no'; END IF; {READ} END",
    "BEGIN IF EXISTS (SELECT FROM public.projects p WHERE p.id = t) THEN RAISE 'there'; END IF; RETURN; END",
    f"DECLARE ok boolean := true; BEGIN BEGIN ok := app.is_member(t); PERFORM 1/0; EXCEPTION WHEN OTHERS THEN"
    f" IF NOT ok THEN RAISE 'no'; END IF; {READ} END; END",
)


def _leak(dsn: str, body: str) -> str:
    head = "CREATE FUNCTION app.asked(t uuid, o uuid) RETURNS SETOF uuid LANGUAGE plpgsql STABLE SECURITY DEFINER"
    with changed(dsn, f"{head} SET search_path = '' AS $body$ {body} $body$") as found:
        return found.prover.leaks(found.catalog.functions["app.asked(uuid, uuid)"])


@pytest.mark.parametrize("body", BOUND)
def test_a_check_before_the_read_is_understood(body: str, policy_server: str) -> None:
    assert _leak(policy_server, body) == ""


@pytest.mark.parametrize("body", LEAKING)
def test_what_the_check_does_not_cover_leaks(body: str, policy_server: str) -> None:
    assert _leak(policy_server, body)


BY_PROJECT = (
    "CREATE POLICY a ON one TO authenticated USING (EXISTS (SELECT FROM projects p WHERE p.id = one.project_id))"
)
GUARD = "ALTER TABLE projects ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON projects FOR SELECT TO authenticated USING"
LOOK_UPS = {
    BY_PROJECT: False,
    f"{BY_PROJECT}; {GUARD} (tenant_id = app.tenant())": True,
    f"{BY_PROJECT}; {GUARD} (tenant_id IN (SELECT m.tenant_id FROM members m WHERE m.user_id = auth.uid()))": True,
    f"{BY_PROJECT}; {GUARD} (true)": False,
    f"{BY_PROJECT}; {GUARD} (tenant_id = app.tenant() OR name = 'x')": False,
    f"{BY_PROJECT}; {GUARD} (tenant_id = app.tenant()); ALTER TABLE projects DISABLE ROW LEVEL SECURITY": False,
    f"{BY_PROJECT}; {GUARD} (tenant_id = app.tenant()); CREATE POLICY q ON projects FOR SELECT USING (true)": False,
    f"{BY_PROJECT}; {GUARD} (true); CREATE POLICY q ON projects AS RESTRICTIVE USING (tenant_id = app.tenant())": True,
    f"{BY_PROJECT}; {GUARD} (tenant_id = app.tenant()); ALTER TABLE projects OWNER TO authenticated": False,
    f"{BY_PROJECT}; {GUARD} (EXISTS (SELECT FROM one o WHERE o.project_id = projects.id))": False,
    "CREATE POLICY a ON one TO authenticated USING (tenant_id IN (SELECT m.tenant_id FROM members m));"
    " ALTER TABLE members ENABLE ROW LEVEL SECURITY; CREATE POLICY m ON members TO authenticated"
    " USING (user_id = auth.uid())": False,
    "CREATE POLICY a ON one TO authenticated USING (tenant_id IN (SELECT m.tenant_id FROM members m));"
    " ALTER TABLE members ENABLE ROW LEVEL SECURITY; CREATE POLICY m ON members TO authenticated"
    " USING (user_id = auth.uid() OR role = 'admin')": False,
}


@pytest.mark.parametrize("change", LOOK_UPS)
def test_what_a_looked_up_table_shows_counts(change: str, policy_server: str) -> None:
    with changed(policy_server, change) as found:
        assert (not found.gaps("one")) is LOOK_UPS[change], found.gaps("one")


def test_the_bodies_are_taken_by_the_server(policy_server: str) -> None:
    """A body that the server refuses would be refused by the prover for the wrong reason."""
    with psycopg.connect(policy_server) as connection:
        for number, body in enumerate((*BOUND, *LEAKING)):
            head = f"CREATE FUNCTION app.asked{number}(t uuid, o uuid) RETURNS SETOF uuid LANGUAGE plpgsql"
            connection.execute(f"{head} AS $body$ {body} $body$".encode())
        connection.rollback()
