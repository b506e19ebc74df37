"""What looks like a guard and holds nothing, on the hardened schema of the fault benchmark."""

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import rolled_back
from tests.support import faults_settings

PATH = "alter table public.attachments drop constraint attachments_path_ck; alter table public.attachments"
PATH += " add constraint attachments_path_ck check"
CASES = {
    ("TP115", "alter table public.attachments enable trigger attachments_align"): Outcome.FAILED,
    ("TP115", "create trigger t before update on public.units execute function private.forbid()"): Outcome.FAILED,
    ("TP116", f"{PATH} (split_part(path, '/', 1) = tenant_id::text or path like 'shared/%')"): Outcome.FAILED,
    ("TP116", f"{PATH} (split_part(path, '/', 1) = tenant_id::text and path not like '%..%')"): Outcome.PASSED,
    ("TP116", "alter table public.units add check (label <> '' or valid is not null)"): Outcome.PASSED,
    (
        "TP251",
        "create function private.support() returns trigger language plpgsql security definer set search_path = '' as $$"
        " begin insert into public.memberships values (new.tenant_id, '00000000-0000-0000-0000-0000000000b1', 'owner');"
        " return null; end $$; create trigger s after insert on public.memberships for each row"
        " execute function private.support()",
    ): Outcome.FAILED,
    ("TP212", "grant authenticated to anon with admin true, inherit false, set false"): Outcome.FAILED,
    (
        "TP510",
        "alter table public.audit_events alter actor_role set default current_setting('app.actor', true)",
    ): Outcome.FAILED,
    ("TP510", "alter table public.audit_events alter actor_role set default 'system'"): Outcome.FAILED,
    ("TP252", "alter policy messages_floor on public.messages using (true) with check (true)"): Outcome.FAILED,
    ("TP252", "alter policy messages_floor on public.messages using (body <> 'hidden')"): Outcome.PASSED,
}


@pytest.mark.parametrize(("control", "change"), CASES)
def test_a_guard_that_holds_nothing_is_named(control: str, change: str, faults_database: str) -> None:
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        connection.execute(change.encode())
        found = judge(control, Catalog(read_snapshot(connection), faults_settings()))
        assert found.outcome is CASES[control, change], [f.detail for f in found.findings]
