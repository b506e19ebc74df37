"""Permitted users come with the claims that policies ask for beside the tenant."""

import json
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.probes import probe
from pytest_tenantproof.probes.binding import Binding
from pytest_tenantproof.probes.wanted import wanted
from pytest_tenantproof.target import rolled_back
from tests.support import faults_settings

JWT = "(SELECT auth.jwt())"
APP = f"{JWT} -> 'app_metadata'"
OWN = f"tenant_id = ({JWT} ->> 'tenant_id')::uuid"
ASKED: dict[str, tuple[tuple[str, ...], Any]] = {
    f"{JWT} ->> 'aal' = 'aal2'": (("aal",), "aal2"),
    f"({JWT} ->> 'aal') = ANY (ARRAY['aal2', 'aal3'])": (("aal",), "aal2"),
    f"({JWT} ->> 'aal') = ANY ('{{aal2,aal3}}'::text[])": (("aal",), "aal2"),
    f"{APP} ->> 'plan' IN ('pro', 'team')": (("app_metadata", "plan"), "pro"),
    f"({APP} ->> 'email_verified')::boolean": (("app_metadata", "email_verified"), True),
    f"({APP} ->> 'email_verified')::boolean IS TRUE": (("app_metadata", "email_verified"), True),
    f"NOT coalesce(({APP} ->> 'banned')::boolean, true)": (("app_metadata", "banned"), False),
    f"({APP} ->> 'level')::int > 2": (("app_metadata", "level"), 3),
    f"({JWT} ->> 'session_id') IS NOT NULL": (("session_id",), "x"),
    f"{APP} -> 'roles' ? 'manager'": (("app_metadata", "roles"), ["manager"]),
    f"{JWT} -> 'amr' @> '[{{\"method\": \"totp\"}}]'": (("amr",), [{"method": "totp"}]),
    f"ARRAY[{JWT} ->> 'aal'] <@ (SELECT CASE WHEN count(*) > 0 THEN ARRAY['aal2'] ELSE ARRAY['aal1', 'aal2'] END"
    " FROM tenants)": (("aal",), "aal2"),
}


def _asked(connection: psycopg.Connection[Any], policy: str) -> dict[tuple[str, ...], Any]:
    connection.execute(f"CREATE POLICY asks ON units {policy}".encode())
    return dict(wanted(Catalog(read_snapshot(connection), faults_settings())))


@pytest.mark.parametrize("condition", ASKED)
def test_what_a_restrictive_policy_asks_for_is_read(condition: str, faults_database: str) -> None:
    path, value = ASKED[condition]
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        assert _asked(connection, f"AS RESTRICTIVE TO authenticated USING ({condition})") == {path: value}


def test_a_permissive_policy_is_asked_for_what_it_wants_beside_the_tenant(faults_database: str) -> None:
    admin = f"{APP} ->> 'role' = 'admin'"
    with psycopg.connect(faults_database, autocommit=True) as connection:
        with rolled_back(connection):
            asked = _asked(connection, f"FOR DELETE TO authenticated USING ({OWN} AND {admin})")
            assert asked == {("app_metadata", "role"): "admin"}
        with rolled_back(connection):
            assert _asked(connection, f"FOR DELETE TO authenticated USING ({admin})") == {}


@pytest.mark.parametrize(
    "body", ["sql STABLE AS $$ SELECT {} $$", "plpgsql STABLE AS $$ BEGIN RETURN {}; END $$"], ids=["sql", "plpgsql"]
)
def test_what_a_function_asks_for_is_read(body: str, faults_database: str) -> None:
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        connection.execute(
            "CREATE FUNCTION private.is_strong() RETURNS boolean LANGUAGE "
            + body.format("auth.jwt() ->> 'aal' = 'aal2'")
        )
        asked = _asked(connection, "AS RESTRICTIVE TO authenticated USING (private.is_strong())")
        assert asked == {("aal",): "aal2"}


def test_the_tenant_comes_before_what_is_asked() -> None:
    binding = Binding(tenant_paths=(("app_metadata", "t"),), wanted=((("app_metadata", "t"), "x"), (("role",), "y")))
    assert json.loads(binding.settings(binding.claims("authenticated", "a", "u"))["request.jwt.claims"]) == {
        "role": "authenticated",
        "aud": "authenticated",
        "app_metadata": {"t": "a"},
        "user_metadata": {},
        "sub": "u",
    }


@pytest.mark.parametrize(
    ("hole", "found"), [("", False), ("CREATE POLICY hole ON units TO authenticated USING (true)", True)]
)
def test_an_attacker_with_a_second_factor_is_refused_for_the_tenant_alone(
    hole: str, found: bool, faults_database: str
) -> None:
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        factor = next(iter(ASKED))
        connection.execute(
            f"CREATE POLICY mfa ON units AS RESTRICTIVE TO authenticated USING ({factor}); {hole}".encode()
        )
        probed = probe(connection, Catalog(read_snapshot(connection), faults_settings()))
        assert "public.units" not in probed.problems
        assert ("public.units" in {breach.object for breach in probed.breaches}) is found
