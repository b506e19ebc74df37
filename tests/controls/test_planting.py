"""TP251: where the tenant of a row that a definer trigger inserts comes from."""

from collections.abc import Iterator

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import rolled_back
from tests.controls.definers import BEFORE, LEAVING, STAYING
from tests.support import faults_settings

INTO = "insert into public.developments(tenant_id, name)"
BODIES = {
    f"begin {INTO} values ((new.label)::uuid, 'x'); return new; end": Outcome.FAILED,
    f"declare t uuid; begin t := current_setting('app.t'); {INTO} values (t, 'x'); return new; end": Outcome.FAILED,
    f"begin {INTO} select m.tenant_id, 'x' from public.memberships m; return new; end": Outcome.FAILED,
    f"begin {INTO} values (coalesce(new.development_id, new.tenant_id), 'x'); return new; end": Outcome.FAILED,
    f"begin {INTO} values (new.tenant_id, new.label); return new; end": Outcome.PASSED,
    f"declare t uuid := new.tenant_id; begin {INTO} values (t, new.label); return new; end": Outcome.PASSED,
    f"begin {INTO} select new.tenant_id, u.label from public.units u where u.id = new.id; return new; end": (
        Outcome.PASSED
    ),
    f"begin {INTO} values (private.current_tenant_id(), new.label); return new; end": Outcome.PASSED,
}


JOIN = "insert into public.memberships(tenant_id, user_id, role)"
SIGNUPS = {
    f"begin {JOIN} values ((new.raw_user_meta_data ->> 'tenant_id')::uuid, new.id, 'member'); return null; end": (
        Outcome.FAILED
    ),
    f"begin {JOIN} select t.id, new.id, 'member' from public.tenants t; return null; end": Outcome.FAILED,
    f"declare t uuid; begin insert into public.tenants values (gen_random_uuid(), new.email, 'x') returning id into t;"
    f" {JOIN} values (t, new.id, 'owner'); return null; end": Outcome.PASSED,
    f"declare t uuid; begin insert into public.tenants values (gen_random_uuid(), new.email, 'x') on conflict (slug)"
    f" do update set name = 'x' returning id into t; {JOIN} values (t, new.id, 'member'); return null; end": (
        Outcome.FAILED
    ),
    f"declare t public.tenants; begin insert into public.tenants values (gen_random_uuid(), new.email, 'x') returning *"
    f" into t; {JOIN} values (t.id, new.id, 'owner'); return null; end": Outcome.PASSED,
    f"declare t public.tenants; begin insert into public.tenants values (gen_random_uuid(), new.email, 'x') returning *"
    f" into t; {JOIN} values (t.name::uuid, new.id, 'owner'); return null; end": Outcome.FAILED,
    f"declare t uuid; begin insert into public.tenants values (gen_random_uuid(), new.email, 'x') returning name::uuid"
    f" into t; {JOIN} values (t, new.id, 'owner'); return null; end": Outcome.FAILED,
    f"declare t uuid := gen_random_uuid(); begin insert into public.tenants values (t, new.email, 'x');"
    f" {JOIN} values (t, new.id, 'owner'); return null; end": Outcome.PASSED,
}


def planted(dsn: str, body: str, table: str) -> Outcome:
    """What TP251 says of a definer trigger with that body."""
    with psycopg.connect(dsn, autocommit=True) as connection, rolled_back(connection):
        connection.execute(
            "create function private.plants() returns trigger language plpgsql security definer set search_path = ''"
            f" as $$ {body} $$; create trigger plants after insert on {table} for each row"
            " execute function private.plants()".encode()
        )
        return judge("TP251", Catalog(read_snapshot(connection), faults_settings())).outcome


@pytest.mark.parametrize("body", SIGNUPS)
def test_who_signs_up_joins_no_tenant_of_their_choice(body: str, faults_database: str) -> None:
    assert planted(faults_database, body, "auth.users") is SIGNUPS[body]


@pytest.mark.parametrize("body", BODIES)
def test_the_tenant_of_a_planted_row_is_followed(body: str, faults_database: str) -> None:
    assert planted(faults_database, body, "public.units") is BODIES[body]


@pytest.fixture(scope="module")
def purging(faults_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        connection.execute(
            "create function private.purge(what text) returns void language sql set search_path = ''"
            " as $$ delete from public.units where label = what $$;"
            "create function private.tidy(of uuid) returns void language sql begin atomic"
            " delete from public.messages where tenant_id = of; end;"
            "create function private.wipe(what text, out gone bigint) language plpgsql set search_path = ''"
            " as $$ begin delete from public.units where label = what; gone := 1; end $$;"
            "create function private.wipe_of(of uuid, what text) returns void language plpgsql set search_path = ''"
            " as $$ begin delete from public.units where label = what and tenant_id = of; end $$;"
            "create function private.set_aside(t uuid, u uuid) returns void language plpgsql set search_path = ''"
            " as $$ begin if false then t := u; end if; delete from public.units where tenant_id = t; end $$;"
            "create function private.uses(t uuid, u uuid) returns void language plpgsql set search_path = ''"
            " as $$ begin execute 'delete from public.units where tenant_id = $1' using u; end $$"
        )
        yield connection


def judged(connection: psycopg.Connection, body: str, timing: str = "after") -> list[str]:
    with connection.transaction(force_rollback=True):
        connection.execute(
            "create function private.acts() returns trigger language plpgsql security definer set search_path = ''"
            f" as $f$ {body} $f$; create trigger acts {timing} insert or update on public.units for each row"
            " execute function private.acts()".encode()
        )
        found = judge("TP251", Catalog(read_snapshot(connection), faults_settings()))
        assert found.outcome is (Outcome.FAILED if found.findings else Outcome.PASSED), found.reason
        return [finding.detail for finding in found.findings]


@pytest.mark.parametrize("body", STAYING)
def test_a_definer_trigger_within_its_tenant_is_fine(body: str, purging: psycopg.Connection) -> None:
    assert judged(purging, body) == []


@pytest.mark.parametrize("body", LEAVING)
def test_a_definer_trigger_that_reaches_further_is_named(body: str, purging: psycopg.Connection) -> None:
    assert any("trigger acts of public.units" in detail for detail in judged(purging, body))


@pytest.mark.parametrize("body", BEFORE)
def test_before_the_write_a_new_key_names_anybodys_row(body: str, purging: psycopg.Connection) -> None:
    assert (judged(purging, body, "before") == []) is BEFORE[body]
