"""Guards that look right, and what beside them takes their effect away; and the same with nothing wrong."""

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import rolled_back
from tests.support import faults_settings


def _later(body: str, on: str, name: str = "zz") -> str:
    """A further BEFORE trigger."""
    return (
        f"create function private.zz() returns trigger language plpgsql set search_path = '' as $$ {body} $$;"
        f" create trigger {name} before insert or update on public.{on} for each row execute function private.zz()"
    )


def _after(table: str) -> str:
    """A table's guard of the tenant, after the write."""
    return (
        f"drop trigger {table}_freeze on public.{table}; create trigger {table}_freeze after update on public.{table}"
        " for each row execute function private.freeze_tenant()"
    )


HELPER = (
    "create function private.leak(x uuid) returns text language sql set search_path = '' as $$ select {} $$;"
    " create function private.acts() returns trigger language plpgsql security definer set search_path = private,"
    " pg_temp as $$ begin new.label := leak(new.id); return new; end $$; create trigger acts before insert on"
    " public.units for each row execute function private.acts()"
)
ROW = "declare r public.units; begin r := new; r.{} := {}; return r; end"

CASES = {
    ("TP113", _after("units")): Outcome.PASSED,
    ("TP113", _after("readings")): Outcome.FAILED,
    ("TP114", _later("begin new.subject_id := new.path::uuid; return new; end", "attachments")): Outcome.FAILED,
    ("TP114", _later("begin new.subject_type := 'unit'; return new; end", "attachments")): Outcome.FAILED,
    ("TP114", _later("begin new.subject_id := new.path::uuid; return new; end", "attachments", "aa")): Outcome.PASSED,
    ("TP114", _later("begin new.path := btrim(new.path); return new; end", "attachments")): Outcome.PASSED,
    ("TP125", _later(ROW.format("tenant_id", "r.id"), "units")): Outcome.FAILED,
    ("TP125", _later("begin return jsonb_populate_record(new, new.label::jsonb); end", "units")): Outcome.FAILED,
    ("TP125", _later(ROW.format("label", "btrim(r.label)"), "units")): Outcome.PASSED,
    ("TP243", _later("begin perform set_config('request.jwt.claims', new.label, true); return new; end", "units")): (
        Outcome.FAILED
    ),
    (
        "TP243",
        _later("begin execute format('set request.jwt.claims = %L', new.body); return new; end", "units"),
    ): (Outcome.FAILED),
    ("TP243", _later("begin perform set_config(new.label, 'x', true); return new; end", "units")): Outcome.FAILED,
    ("TP243", _later("begin set local row_security = off; return new; end", "units")): Outcome.FAILED,
    ("TP243", _later("begin perform set_config('app.depth', '1', true); return new; end", "units")): Outcome.PASSED,
    ("TP243", _later("begin update public.units set label = role where false; return new; end", "units")): (
        Outcome.PASSED
    ),
    (
        "TP243",
        _later("begin update public.memberships set role = 'owner' where false; return new; end", "units"),
    ): Outcome.PASSED,
    ("TP243", _later("begin if true then set local role service_role; end if; return new; end", "units")): (
        Outcome.FAILED
    ),
    ("TP243", _later("begin set session authorization postgres; return new; end", "units")): Outcome.FAILED,
    ("TP243", _later("begin execute 'set role service_role'; return new; end", "units")): Outcome.FAILED,
    ("TP243", _later("begin execute format('set %I = %L', new.label, 'x'); return new; end", "units")): Outcome.FAILED,
    (
        "TP248",
        "create function private.to_jsonb(public.units) returns jsonb language sql immutable return '{}'::jsonb",
    ): Outcome.FAILED,
    ("TP248", "create function private.to_text(public.units) returns text language sql return 'x'"): Outcome.PASSED,
    ("TP509", "drop function private.audit_row() cascade"): Outcome.NOT_RUN,
    ("TP251", HELPER.format("body from public.messages where unit_id = x")): Outcome.FAILED,
    ("TP251", HELPER.format("upper(x::text)")): Outcome.PASSED,
}


@pytest.mark.parametrize(("control", "change"), CASES)
def test_what_takes_a_guard_s_effect_away_is_named(control: str, change: str, faults_database: str) -> None:
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        connection.execute(change.encode())
        found = judge(control, Catalog(read_snapshot(connection), faults_settings()))
        assert found.outcome is CASES[control, change], [f.detail for f in found.findings]


def test_an_update_to_another_partition_fires_no_trigger_after_it(faults_database: str) -> None:
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        connection.execute(_after("readings").encode())
        connection.execute("alter table public.readings disable trigger readings_audit")
        connection.execute("alter table public.readings drop constraint readings_unit_fk")
        connection.execute("create table public.rest partition of public.readings default")
        tenant = "tenant_id = 'bbbbbbbb-0000-0000-0000-000000000000'"
        moved = f"update public.readings set {tenant}, at = '{{}}-03-01' where not {tenant}"
        with pytest.raises(psycopg.DatabaseError, match="immutable"), connection.transaction():
            connection.execute(moved.format(2026).encode())
        assert connection.execute(moved.format(2027).encode()).rowcount == 1
