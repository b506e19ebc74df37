"""TP251: where the tenant of a row that a definer trigger inserts comes from."""

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import rolled_back
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
