"""5xx: the audit log put to the test, and its events against their seals and clock."""

from datetime import UTC, datetime, timedelta

from pytest_tenantproof.audit import Order, Sealed, Tampered
from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import LOGGING
from pytest_tenantproof.model import Severity
from pytest_tenantproof.probes import Trail, Tried
from pytest_tenantproof.target import TargetInfo

_WRITES = frozenset({"INSERT", "UPDATE", "DELETE"})
_SEALED_COLUMNS = frozenset({"id", "at", "xid", "tenant_id", "actor", "actor_source", "keys", "changed"})
_LATE = timedelta(hours=26)
_MOST = 50
_ON_LIVE = {
    "target": TargetInfo("prod", "live", "18.0", "app", "1", "auditor", True, "2026-01-01T00:00:00Z"),
    "last_digests": {},
}


def _report(tried: Tried, findings: Findings, nothing: str) -> None:
    for flaw in tried.flaws:
        findings.add(flaw.object, flaw.detail, role=flaw.role or None, operation=flaw.operation or None)
    if not len(findings) and tried.problems:
        findings.not_run("; ".join(f"{name}: {why}" for name, why in sorted(tried.problems.items())))
    if not len(findings) and not tried.shown:
        findings.not_run(nothing)


@control(
    "TP512",
    title="Every write was seen to leave its event",
    severity=Severity.HIGH,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{drop_audit_trigger}")
@falsified_by("{audit_writes_nothing}")
@falsified_by("{weaken_audit_trigger}")
@falsified_by("{audit_clock_of_transaction}")
def test_writes_were_seen_to_be_recorded(trail: Trail, findings: Findings) -> None:
    """A row of a made-up tenant is inserted, updated and deleted in every tenant table, and rolled back. Each time the
    log must hold one event more of that tenant, dated between the moment before and the moment after; also under
    `session_replication_role = replica`, where the session may set it. `SELECT tenantproof.audit('schema.table')`.
    """
    _report(trail.events, findings, "no write was tried: audit_tables names no table, or no row could be made")


@control(
    "TP513",
    title="Changing, removing and forging audit events was tried, and refused",
    severity=Severity.CRITICAL,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{drop_append_only}")
@falsified_by("{weaken_append_only}")
@falsified_by("GRANT INSERT ON {audit_table} TO {service_role}")
@falsified_by("{audit_guard_excuses}")
def test_events_were_seen_to_stay(trail: Trail, findings: Findings) -> None:
    """On the log and each of its partitions UPDATE, DELETE and TRUNCATE are tried as the session's own role, the log's
    owner, the owners and writers of tenant tables, and every client, service and scoped role; as superuser also under
    `session_replication_role = replica`. Missing privileges are granted first and row security is off, inside the
    transaction, so that a refusal is the guard's: only an exception of the log's own trigger counts. Writing an event
    by hand and switching a guard off are tried with the rights that each role has today.
    """
    _report(trail.changes, findings, "nobody reached a guard")
    if not len(findings) and not trail.events.shown:
        findings.not_run("no write left an event, so there was none to change")


@control(
    "TP514",
    title="No client chooses the name in its audit event",
    severity=Severity.HIGH,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{audit_believes_a_setting}")
@falsified_by("{audit_forgets_the_user}")
def test_names_cannot_be_chosen(catalog: Catalog, trail: Trail, findings: Findings) -> None:
    """An event that names whomever its writer likes frames somebody else. A user of each client role that may write
    does so, and the event must name the user of the verified claims. Then the same write is made with a false name in
    each setting that audit code reads, in headers and cookies, and in the metadata that users edit themselves: none
    may reach a column of the log that says who it was.
    """
    if not any(catalog.privileges(t, role) & _WRITES for t in catalog.tenant_tables for role in catalog.client_roles):
        findings.not_applicable("no client role may write a tenant table")
    _report(trail.names, findings, "no client's write went through")


@control(
    "TP515",
    title="Audit events are those that were sealed",
    severity=Severity.CRITICAL,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by(given=_ON_LIVE | {"sealed": Sealed(tampered=(Tampered("seal 1", "event 5 was removed"),))})
@falsified_by(given=_ON_LIVE | {"sealed": Sealed(broken="seal 2 is missing")})
@falsified_by(given=_ON_LIVE | {"sealed": Sealed(), "last_digests": {"seal": "0" * 64}})
@falsified_by(given=_ON_LIVE | {"sealed": Sealed(unsealed=datetime(2026, 1, 1, tzinfo=UTC))})
@falsified_by(given=_ON_LIVE | {"sealed": Sealed()})
def test_events_match_their_seals(
    catalog: Catalog, target: TargetInfo, sealed: Sealed, last_digests: dict[str, str], findings: Findings
) -> None:
    """A superuser can do anything to the log; what was sealed before shows it. The chain of seals in the evidence
    folder is verified, the log is compared with it event by event, the newest seal that an earlier bundle saw must
    still be there, and no event may be older than 26 hours and unsealed. Run `tenantproof seal` hourly.
    """
    if sealed.broken:
        findings.add("seals", sealed.broken)
    for item in sealed.tampered[:_MOST]:
        findings.add("public.audit_events", f"{item.where}: {item.what}")
    if (seen := last_digests.get("seal")) and seen not in {of.digest for of in sealed.chain}:
        findings.add("seals", f"the seal {seen[:16]} of the last bundle is gone: the end of the chain was cut")
    if sealed.unsealed and datetime.now(UTC) - sealed.unsealed > _LATE:
        findings.add("seals", f"events since {sealed.unsealed.astimezone(UTC):%Y-%m-%d %H:%M} UTC are not sealed")
    if len(findings):
        return
    if sealed.unread:
        findings.not_applicable(sealed.unread)
    if not sealed.chain:
        _unsealed(catalog, target, findings)


def _unsealed(catalog: Catalog, target: TargetInfo, findings: Findings) -> None:
    log = catalog.tables.get("public.audit_events")
    if log is None or not {column.name for column in log.columns} >= _SEALED_COLUMNS:
        findings.not_applicable("seals are of the log of migration 002, and this database has another")
    if target.class_ != "live":
        findings.not_applicable(f"no seals are kept of this {target.class_} target")
    findings.not_run("no seal is in the evidence folder: run `tenantproof seal` hourly, and keep its seals there")


@control(
    "TP516",
    title="Audit events are in the order of their clock, and none is from the future",
    severity=Severity.MEDIUM,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by(given={"order_of_events": (Order("public.x", 9, future=1),)})
@falsified_by(given={"order_of_events": (Order("public.x", 9, back=1),)})
@falsified_by(given={"order_of_events": (Order("public.x", unknown="reading it ended in 42501"),)})
def test_events_are_in_order(order_of_events: tuple[Order, ...], findings: Findings) -> None:
    """A server whose clock jumped, or a hand that dated events, leaves a log that cannot be put in order. The newest
    100,000 events by number must not be dated before an earlier one, by more than `timestamp.max_skew_s`; no event
    at all may lie in the future. Find out which clock was off, or who wrote the log by hand.
    """
    for log in order_of_events:
        if log.future:
            findings.add(log.log, f"{log.future} events are dated in the future")
        if log.back:
            findings.add(log.log, f"{log.back} of the newest {log.events} events are dated before an earlier one")
    unknown = [f"{log.log}: {log.unknown}" for log in order_of_events if log.unknown]
    if not len(findings) and unknown:
        findings.not_run("; ".join(unknown))
    if not len(findings) and not any(log.events for log in order_of_events):
        findings.not_run("no audit log has an event")
