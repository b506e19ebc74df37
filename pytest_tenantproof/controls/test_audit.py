"""5xx: every write to tenants' rows is recorded, and the record stays as it is."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.plpgsql import raises_always
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._audit import fires, instead, records, refuses, unrecorded
from pytest_tenantproof.controls._maps import LOGGING
from pytest_tenantproof.model import Severity

_ROWS = ("INSERT", "UPDATE", "DELETE")
_CHANGES = ("UPDATE", "DELETE", "TRUNCATE")
_AHEAD = timedelta(days=45)


@control(
    "TP501", title="Every write to a tenant table is recorded", severity=Severity.HIGH, requirement="C3", maps=LOGGING
)
@falsified_by("{drop_audit_trigger}", also=("TP505",))
@falsified_by("ALTER TABLE {tenant_table} DISABLE TRIGGER USER", also=("TP113", "TP115", "TP502", "TP507"))
@falsified_by("{audit_writes_nothing}", also=("TP505",))
@falsified_by("{audit_swallows_errors}")
@falsified_by("{audit_skips_on_demand}")
def test_writes_are_recorded(catalog: Catalog, findings: Findings) -> None:
    """What nobody recorded, nobody can investigate. Each table needs an enabled trigger for INSERT, UPDATE and
    DELETE whose function inserts into an audit table and sees the rows, by row or by transition table; partitions
    too, because a write to one fires no statement trigger of its parent. `SELECT tenantproof.audit('schema.table')`.

    The function is followed on every path that the operation can take through it: none may return without an event,
    and no exception handler may let a write pass whose event failed.
    """
    if not catalog.audit_tables:
        findings.add(catalog.settings.source, "audit_tables names no table of this database: nothing records writes")
    for table in catalog.tenant_tables if catalog.audit_tables else ():
        live = [t for t in table.triggers if t.enabled in ("origin", "always") and records(catalog, t)]
        fix = f"SELECT tenantproof.audit('{catalog.root_of(table).name}');"
        for event in _ROWS:
            why = {t.function: unrecorded(catalog, t, event) for t in live if event in t.events}
            if not why:
                findings.add(table, f"{event} is recorded by no trigger{instead(table, event)}", fix=fix)
            elif all(why.values()):
                said = ", ".join(f"{function} {reason}" for function, reason in why.items())
                findings.add(table, f"{event} may go unrecorded: {said}", fix=fix)


@control(
    "TP502",
    title="Audit triggers fire in every session",
    severity=Severity.HIGH,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{weaken_audit_trigger}", also=("TP115",))
def test_audit_triggers_always_fire(catalog: Catalog, findings: Findings) -> None:
    """`SET session_replication_role = replica` silences every trigger that is not ENABLE ALWAYS, and a disabled
    one still shows in listings.
    """
    for table in catalog.tenant_tables:
        for trigger in table.triggers:
            if not fires(trigger) and records(catalog, trigger):
                fix = f"ALTER TABLE {table.name} ENABLE ALWAYS TRIGGER {trigger.name};"
                findings.add(table, f"audit trigger {trigger.name} is {trigger.enabled}, not always", fix=fix)


@control(
    "TP503",
    title="Audit events cannot be changed, removed or forged by anyone",
    severity=Severity.CRITICAL,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{drop_append_only}")
@falsified_by("{weaken_append_only}", also=("TP115",))
@falsified_by("GRANT INSERT ON {audit_table} TO {service_role}")
@falsified_by("GRANT DELETE ON {audit_table} TO {service_role}")
def test_audit_is_append_only(catalog: Catalog, findings: Findings) -> None:
    """Whoever reads what they did can also wish it away. Every audit table and each partition of it needs BEFORE
    triggers, ENABLE ALWAYS, that refuse UPDATE, DELETE and TRUNCATE, its owner's too; and nobody but its owner and
    administrators may hold a right to write to it.
    """
    for table in catalog.audit_tables:
        guards = [t for t in table.triggers if fires(t) and refuses(catalog, t)]
        if missing := [event for event in _CHANGES if not any(event in t.events for t in guards)]:
            findings.add(
                table, f"no trigger that always fires refuses {', '.join(missing)}{instead(table, missing[0])}"
            )
        for grant in (*table.grants, *(g for column in table.columns for g in column.grants)):
            writes = grant.privilege in ("INSERT", *_CHANGES)
            if writes and grant.grantee != table.owner and not catalog.is_admin(grant.grantee):
                fix = f"REVOKE {grant.privilege} ON {table.name} FROM {grant.grantee};"
                findings.add(table, f"{grant.grantee} holds {grant.privilege}", fix=fix, role=grant.grantee)


@control(
    "TP504",
    title="Nobody acts as the owner of the audit log",
    severity=Severity.HIGH,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{audit_owner_logs_in}", also=("TP214",))
@falsified_by("{audit_owner_is_held}", also=("TP213",))
def test_audit_owner_is_nobody(catalog: Catalog, findings: Findings) -> None:
    """An owner can drop the triggers that protect a table. It must be a role without login that no client, service
    or scoped role, and no login role but administrators, is a member of; nor may it bypass row security. The same
    roles must not reach the owner of a function that writes events or refuses their change: it can replace it.
    """
    roles = catalog.graph.roles
    for table in catalog.audit_tables:
        owner = roles.get(table.owner)
        if owner is None or owner.login or owner.superuser or owner.bypass_rls:
            findings.add(table, f"its owner {table.owner} can log in, is a superuser or bypasses row security")
        for role in _reaching(catalog, table.owner) - {table.owner}:
            findings.add(table, f"{role} can act as its owner {table.owner}", role=role)
    tables = (*catalog.tenant_tables, *catalog.audit_tables)
    used = {t.function for table in tables for t in table.triggers if records(catalog, t) or refuses(catalog, t)}
    for signature in sorted(used):
        function = catalog.functions[signature]
        for role in _reaching(catalog, function.owner):
            findings.add(function, f"{role} can act as its owner {function.owner}, and replace it", role=role)


def _reaching(catalog: Catalog, owner: str) -> set[str]:
    """Logins, administrators aside, and client, service and scoped roles that can act as the owner."""
    s, graph = catalog.settings, catalog.graph
    found = {r.name for r in graph.logins_reaching((owner,)) if not catalog.is_admin(r.name)}
    named = (*catalog.client_roles, *s.service_roles, *s.scoped_roles)
    return found | {r for r in named if r in graph.roles and owner in graph.acts_as(r)}


@control(
    "TP505",
    title="TRUNCATE of a tenant table is recorded or refused",
    severity=Severity.HIGH,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{drop_truncate_trigger}")
def test_truncate_leaves_a_trace(catalog: Catalog, findings: Findings) -> None:
    """TRUNCATE fires no DELETE trigger. Each table, and each partition (statement triggers are not cloned), needs a
    TRUNCATE trigger that records it or raises.
    """
    for table in catalog.tenant_tables if catalog.audit_tables else ():
        own = [t for t in table.triggers if "TRUNCATE" in t.events]
        kept = (records(catalog, t) and not unrecorded(catalog, t, "TRUNCATE") for t in own)
        if not any(kept) and not any(_raises(catalog, t.function) for t in own):
            detail = f"TRUNCATE leaves no trace{instead(table, 'TRUNCATE')}"
            findings.add(table, detail, fix=f"SELECT tenantproof.audit('{table.name}');")


def _raises(catalog: Catalog, signature: str) -> bool:
    function = catalog.functions.get(signature)
    return function is not None and raises_always(function)


@control(
    "TP506",
    title="Audit partitions exist ahead of time",
    severity=Severity.MEDIUM,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by(given={"today": date(2199, 1, 1)})
def test_partitions_are_ahead(catalog: Catalog, today: date, findings: Findings) -> None:
    """Without a partition for the day every audited write fails, or lands in the default one, which then blocks the
    making of the right one. `SELECT tenantproof.audit_partitions()` makes the next months.
    """
    logs = [table for table in catalog.audit_tables if table.kind == "partitioned" and not table.is_partition]
    if not logs:
        findings.not_applicable("no audit log of this database is partitioned")
    for table in logs:
        bounds = [child.partition_bound for child in catalog.children_of(table)]
        if "DEFAULT" not in bounds:
            findings.add(table, "has no default partition: a write without a partition fails")
        ranges = sorted(_ranges(bounds))
        for day in (today, today + _AHEAD):
            if not any(start <= day < end for start, end in ranges):
                findings.add(table, f"has no partition for {day}", fix="SELECT tenantproof.audit_partitions();")
        for (_, end), (start, _) in pairwise(ranges):
            if end < start:
                findings.add(table, f"has no partition from {end} to {start}: one was dropped or detached")


def _ranges(bounds: list[str]) -> Iterator[tuple[date, date]]:
    for bound in bounds:
        found = re.fullmatch(r"FOR VALUES FROM \('(\d{4}-\d\d-\d\d)[^']*'\) TO \('(\d{4}-\d\d-\d\d)[^']*'\)", bound)
        if found:
            yield date.fromisoformat(found[1]), date.fromisoformat(found[2])


@control(
    "TP507",
    title="Keys cannot change where audit triggers pair rows by them",
    severity=Severity.MEDIUM,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{drop_key_guard}")
def test_paired_keys_are_immutable(catalog: Catalog, findings: Findings) -> None:
    """An UPDATE trigger with both transition tables pairs old and new rows by primary key. When keys change, rows
    are mis-paired or lost, so a row trigger that always fires must refuse a change of any column of the key.
    """
    for table in catalog.tenant_tables:
        if not any(t.old_table and t.new_table and records(catalog, t) for t in table.triggers):
            continue
        key = next((c.columns for c in table.constraints if c.kind == "primary"), ())
        tenant = catalog.tenant_column(table)
        guarded = {
            name for t in table.triggers if fires(t) for name in key if _guards(catalog, t.function, t.when, name)
        }
        guarded |= {tenant.name} if tenant else set()
        if left := [name for name in key if name not in guarded]:
            fix = f"SELECT tenantproof.audit('{table.name}');"
            findings.add(table, f"no trigger that always fires keeps {', '.join(left)} as it is", fix=fix)
        if not key:
            findings.add(table, "has no primary key: its audit events cannot name rows")


def _guards(catalog: Catalog, function: str, when: str, column: str) -> bool:
    return _raises(catalog, function) and f"old.{column} is distinct from new.{column}" in when.lower()


@control(
    "TP508",
    title="Audit events carry the time of the write and its transaction",
    severity=Severity.MEDIUM,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{audit_clock_of_transaction}")
def test_audit_clock(catalog: Catalog, findings: Findings) -> None:
    """now() is the time at which a transaction began: an event could be dated hours before it happened, into a range
    that is sealed already. The time must default to clock_timestamp(), and the transaction's id be kept.
    """
    for table in catalog.audit_tables:
        defaults = {column.default for column in table.columns}
        if "clock_timestamp()" not in defaults:
            findings.add(table, "no column has the default clock_timestamp()")
        if not defaults & {"pg_current_xact_id()", "txid_current()"}:
            findings.add(table, "no column has the default pg_current_xact_id()")
