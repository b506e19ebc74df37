"""8xx: what must not be there is counted, often, before anybody notices it."""

from typing import Any

from pytest_tenantproof.canary import Level, Reading, Readings
from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import CHANGE, INTEGRITY, LOGGING, MONITORING, PRIVILEGE, RESTORE
from pytest_tenantproof.model import Severity
from pytest_tenantproof.target import TargetInfo


def _bad(canary: str) -> dict[str, Any]:
    return {"readings": Readings((Reading(canary, "public.x", 7, Level.FAIL, "7 too many"),))}


_STAGING = TargetInfo("staging", "staging", "18", "app", "1", "postgres", False, "")


def _unchanged(target: TargetInfo, last: dict[str, str], now: dict[str, str], findings: Findings) -> None:
    if target.class_ == "scratch":
        findings.not_applicable("a scratch target is made anew for each run")
    if not last:
        findings.not_applicable("there is no earlier evidence of this target")
    for name, value in now.items():
        if name in last and last[name] != value:
            findings.add(name, "is not what it was at the last evidence")


def _judge(readings: Readings, findings: Findings, canary: str) -> None:
    """Failing readings are findings, warnings are said; a canary that could not look never passes."""
    if problem := readings.problems.get(canary):
        findings.not_run(problem)
    taken = list(readings.of(canary))
    if not taken:
        findings.not_applicable("nothing of the kind is configured or there")
    for reading in taken:
        if reading.level is Level.FAIL:
            findings.add(reading.object, reading.detail)
        elif reading.level is Level.WARN:
            findings.note(f"warning: {reading.object}: {reading.detail}")


@control(
    "TP801",
    title="No row has lost its parent",
    severity=Severity.CRITICAL,
    requirement="E1",
    maps=INTEGRITY,
)
@falsified_by(given=_bad("TP801"))
def test_no_orphans(readings: Readings, findings: Findings) -> None:
    """An orphan is data that no tenant's user can reach and no erasure finds. Foreign keys forbid it; one that was
    dropped, disabled or bypassed by a restore does not, so rows are counted along every reference that is
    declared. Repair with `tenantproof recover`.
    """
    _judge(readings, findings, "TP801")


@control(
    "TP802",
    title="No row disagrees with its parent's tenant",
    severity=Severity.CRITICAL,
    requirement="E1",
    maps=INTEGRITY,
)
@falsified_by(given=_bad("TP802"))
def test_no_misalignment(readings: Readings, findings: Findings) -> None:
    """A message of tenant A under a unit of tenant B is shown to the wrong people by every query that joins them.
    Counted on every declared reference, also where its key is gone. Repair with `tenantproof recover`.
    """
    _judge(readings, findings, "TP802")


@control(
    "TP803",
    title="No row is without a tenant",
    severity=Severity.HIGH,
    requirement="E1",
    maps=INTEGRITY,
)
@falsified_by(given=_bad("TP803"))
def test_no_row_without_tenant(readings: Readings, findings: Findings) -> None:
    """A row without a tenant belongs to everybody or to nobody, depending on the query."""
    _judge(readings, findings, "TP803")


@control(
    "TP804",
    title="Onboardings succeed",
    severity=Severity.MEDIUM,
    requirement="E1",
    maps=MONITORING,
)
@falsified_by(given=_bad("TP804"))
def test_onboardings_succeed(readings: Readings, findings: Findings) -> None:
    """A failed onboarding leaves half a tenant: a row in one table, none in the next. Look at its error, finish or
    undo it. Window and numbers are in [tenantproof.canary].
    """
    _judge(readings, findings, "TP804")


@control(
    "TP805",
    title="Nobody deletes abnormally much",
    severity=Severity.HIGH,
    requirement="E1",
    maps=MONITORING,
)
@falsified_by(given=_bad("TP805"))
def test_deletions_are_usual(readings: Readings, findings: Findings) -> None:
    """A faulty job or a stolen account empties a tenant within minutes. Deletions by tenant and table are compared
    with the same hours of past weeks: their median, and the median distance from it, which single bad days do not
    move; below a floor nothing is abnormal. See the audit log for who it was.
    """
    _judge(readings, findings, "TP805")


@control(
    "TP806",
    title="Writes leave audit events",
    severity=Severity.LOW,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by(given={"readings": Readings(problems={"TP806": "could not count"})})
def test_writes_leave_events(readings: Readings, findings: Findings) -> None:
    """A table whose statistics know of writes, and whose audit log knows of none, has lost its triggers. Warns only:
    statistics count rolled-back writes too, and start before the log does.
    """
    _judge(readings, findings, "TP806")


@control(
    "TP807",
    title="A verified backup was made lately",
    severity=Severity.HIGH,
    requirement="B1",
    maps=RESTORE,
)
@falsified_by(given=_bad("TP807") | {"target": _STAGING})
def test_a_backup_was_made_lately(readings: Readings, target: TargetInfo, findings: Findings) -> None:
    """A backup job that stopped is noticed on the day after the disaster, or here: each verified backup is recorded in
    backup_runs, and its age needs no access to the store (TP601 looks into that). Run `tenantproof backup`.
    """
    if target.class_ == "scratch":
        findings.not_applicable("a scratch target has no history of backups")
    _judge(readings, findings, "TP807")


@control(
    "TP808",
    title="A restore drill succeeded lately",
    severity=Severity.HIGH,
    requirement="B3",
    maps=RESTORE,
)
@falsified_by(given=_bad("TP808") | {"target": _STAGING})
def test_a_drill_succeeded_lately(readings: Readings, target: TargetInfo, findings: Findings) -> None:
    """A backup that nobody restored is a hope. The nightly drill records each success; when the newest is old, the
    drill or its schedule has stopped. Run `tenantproof drill --target staging`.
    """
    if target.class_ == "scratch":
        findings.not_applicable("a scratch target has no history of drills")
    _judge(readings, findings, "TP808")


@control(
    "TP809",
    title="The catalog is what it was at the last evidence",
    severity=Severity.MEDIUM,
    requirement="E1",
    maps=CHANGE,
)
@falsified_by(given={"target": _STAGING, "last_digests": {"catalog": "0" * 64}})
def test_catalog_is_unchanged(
    catalog: Catalog, target: TargetInfo, last_digests: dict[str, str], findings: Findings
) -> None:
    """A change that no deploy announced is found within a quarter of an hour. It fires once: the run that reports it
    is the next one's last evidence. What changed is in TP911 and TP912, against what was declared.
    """
    _unchanged(target, last_digests, {"catalog": catalog.sha256}, findings)


@control(
    "TP810",
    title="Roles, grants and policies are what they were at the last evidence",
    severity=Severity.HIGH,
    requirement="E1",
    maps=CHANGE,
)
@falsified_by(given={"target": _STAGING, "last_digests": {"catalog": "0" * 64, "catalog.grants": "0" * 64}})
def test_rights_are_unchanged(
    catalog: Catalog, target: TargetInfo, last_digests: dict[str, str], findings: Findings
) -> None:
    """New roles, new grants and new policies are how an intruder stays. Each kind is named when it changed since
    the last evidence; a deploy that changes them on purpose makes this fire once.
    """
    _unchanged(target, last_digests, catalog.parts_sha256, findings)


@control(
    "TP811",
    title="No idle transaction holds back cleaning up",
    severity=Severity.LOW,
    requirement="E1",
    maps=MONITORING,
)
@falsified_by(given=_bad("TP811"))
def test_no_idle_transaction(readings: Readings, findings: Findings) -> None:
    """A transaction left open keeps deleted rows, and backups and seals wait for it. End it with
    pg_terminate_backend(), and set idle_in_transaction_session_timeout.
    """
    _judge(readings, findings, "TP811")


@control(
    "TP812", title="Row security is on at this moment", severity=Severity.CRITICAL, requirement="E1", maps=MONITORING
)
@falsified_by("ALTER TABLE {tenant_table} DISABLE ROW LEVEL SECURITY", also=("TP201", "TP301"))
def test_row_security_is_on_now(catalog: Catalog, findings: Findings) -> None:
    """Somebody who switches row security off for a quick fix opens every tenant to every client until they remember.
    This is TP201's check in the canary's rhythm.
    """
    for table in catalog.isolated_tables:
        if not table.row_security:
            findings.add(table, "row security is off", fix=f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY;")


@control(
    "TP813", title="Whoever watches can read no tenant's row", severity=Severity.HIGH, requirement="E1", maps=PRIVILEGE
)
@falsified_by("GRANT SELECT ON {tenant_table} TO {auditor_role}", also=("TP207", "TP911"))
def test_auditors_read_no_tenant(catalog: Catalog, findings: Findings) -> None:
    """The account that runs every quarter of an hour, from a CI system, is the one most likely to leak. It needs
    numbers only, which functions give it. Revoke whatever else it was granted.
    """
    roles = [role for role in catalog.settings.auditor_roles if role in catalog.graph.roles]
    if not roles:
        findings.not_applicable("no auditor role is configured, or it does not exist here")
    for role in roles:
        if catalog.graph.roles[role].superuser or catalog.graph.roles[role].bypass_rls:
            findings.add(role, "reads past row security", role=role)
        for table in catalog.isolated_tables:
            if held := catalog.privileges(table, role):
                findings.add(table, f"{role} holds {', '.join(sorted(held))}", role=role)
