"""7xx: the newest backup was restored, and is what it says. One drill a run; each control judges its record."""

from dataclasses import dataclass, field
from typing import Any

from pytest_tenantproof.backup.drill import Drill, DrillSource, Stage
from pytest_tenantproof.config import Settings
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import RESTORE
from pytest_tenantproof.model import Severity


def _record(drills: DrillSource, findings: Findings) -> Drill:
    if drills.class_ == "live":
        findings.not_applicable("a drill runs where restores are made: pytest --evidence=staging -m drill")
    return drills.record()


def _judge(drills: DrillSource, findings: Findings, stage: Stage) -> Drill:
    """Fails for the stage that failed; what comes after it was not established."""
    drill = _record(drills, findings)
    if drill.stage == stage:
        findings.add(drill.run or drill.target, drill.error)
    elif not drill.reached(stage):
        findings.not_run(f"the drill ended before that: {drill.stage}: {drill.error}")
    return drill


@dataclass(frozen=True)
class _Given:
    """A drill as given, for faults."""

    drill: Drill
    class_: str = "scratch"
    settings: Settings = field(default_factory=Settings)

    def record(self) -> Drill:
        return self.drill


_TIME = "2026-01-01T00:00:00+00:00"


def _failed(stage: Stage, error: str) -> dict[str, object]:
    return {"drills": _Given(Drill("drill", "prod", _TIME, _TIME, run="run", stage=stage, error=error))}


def _done(**more: Any) -> dict[str, object]:
    return {"drills": _Given(Drill("drill", "prod", _TIME, _TIME, run="run", **more))}


@control(
    "TP701",
    title="The newest backup verifies, byte by byte",
    severity=Severity.CRITICAL,
    requirement="B2",
    maps=RESTORE,
)
@falsified_by(given=_failed("verify", "chunk 3 does not authenticate"))
def test_newest_backup_verifies(drills: DrillSource, findings: Findings) -> None:
    """A backup is worth what its last restore showed. The newest one is downloaded whole; its manifest has to be
    signed by a trusted key, and every chunk to authenticate. An older one in its place does not count."""
    _judge(drills, findings, "verify")


@control(
    "TP702",
    title="The private key opens the newest backup",
    severity=Severity.CRITICAL,
    requirement="B2",
    maps=RESTORE,
)
@falsified_by(given=_failed("decrypt", "the private key cannot read this"))
def test_newest_backup_decrypts(drills: DrillSource, findings: Findings) -> None:
    """A lost or wrong key turns every backup into noise; the drill unwraps the key of every tenant."""
    _judge(drills, findings, "decrypt")


@control(
    "TP703",
    title="The newest backup restores, with every constraint validated",
    severity=Severity.CRITICAL,
    requirement="B2",
    maps=RESTORE,
)
@falsified_by(given=_failed("restore", "the server refused FK CONSTRAINT public.messages"))
def test_newest_backup_restores(drills: DrillSource, findings: Findings) -> None:
    """Rows are loaded, then foreign keys are added: the server checks each against all rows."""
    drill = _judge(drills, findings, "restore")
    if not drill.failed and not drill.restored_to:
        findings.not_run("the drill does not say where it restored to")


@control(
    "TP704",
    title="What was restored is what was backed up, row for row",
    severity=Severity.CRITICAL,
    requirement="B2",
    maps=RESTORE,
)
@falsified_by(given=_failed("compare", "public.messages, tenant 7: 3 rows where the backup has 4"))
@falsified_by(given=_failed("compare", "public.units own: policy: using is true, declared is false"))
@falsified_by(given=_done())
def test_restored_content_is_equal(drills: DrillSource, findings: Findings) -> None:
    """Counts and fingerprints of every table and tenant, sequences and the migration ledger, against the manifest; and
    every definition against the backed-up catalog."""
    drill = _judge(drills, findings, "compare")
    if drill.reached("compare") and not (drill.tables and drill.tenants and drill.rows):
        findings.add(drill.run, "nothing was compared: no table, no tenant or no row was restored")


@control(
    "TP705",
    title="The restored copy passes the invariant and row-security controls, and withstands the probes",
    severity=Severity.CRITICAL,
    requirement="B2",
    maps=RESTORE,
)
@falsified_by(given=_done(judged=9, stage="controls", controls=(("TP202", "public.units", "row security is off"),)))
@falsified_by(given=_done())
def test_restored_copy_is_isolated(drills: DrillSource, findings: Findings) -> None:
    """A restore that loses policies or privileges opens the product on its worst day."""
    drill = _record(drills, findings)
    if not drill.reached("compare"):
        findings.not_run(f"the drill ended before that: {drill.stage}: {drill.error}")
    for failed, name, detail in drill.controls:
        findings.add(name or failed, f"{failed}: {detail}")
    if not drill.judged:
        findings.add(drill.run, "no control judged the restored copy")


@control(
    "TP706",
    title="The newest backup is young enough (RPO)",
    severity=Severity.HIGH,
    requirement="B2",
    maps=RESTORE,
)
@falsified_by(given=_done(rpo_seconds=30 * 3600.0))
@falsified_by(given=_done(rpo_seconds=-7200.0))
def test_rpo(drills: DrillSource, findings: Findings) -> None:
    """What was written since the newest backup is lost on the worst day. An old backup that was put in the place of
    the newest shows here. Set [tenantproof.drill] rpo_hours to what was promised."""
    drill, limit = _record(drills, findings), drills.settings.drill.rpo_hours
    if drill.rpo_seconds is None:
        findings.not_run(f"the age of the newest backup is not known: {drill.error}")
    if drill.rpo_seconds > limit * 3600:
        findings.add(drill.run, f"is {drill.rpo_seconds / 3600:.1f} hours old, and {limit:g} are allowed")
    if drill.rpo_seconds < -3600:
        findings.add(drill.run, "is dated in the future: a clock is wrong")


@control(
    "TP707",
    title="The restore is quick enough (RTO)",
    severity=Severity.HIGH,
    requirement="B2",
    maps=RESTORE,
)
@falsified_by(given=_done(rto_seconds=2 * 3600.0))
def test_rto(drills: DrillSource, findings: Findings) -> None:
    """From the first request to the compared copy. Set [tenantproof.drill] rto_minutes to what was promised, and
    place = "target" to measure the server that would be used."""
    drill, limit = _record(drills, findings), drills.settings.drill.rto_minutes
    if drill.rto_seconds is None:
        findings.not_run(f"the restore did not come to its end: {drill.error}")
    if drill.rto_seconds > limit * 60:
        findings.add(drill.run, f"took {drill.rto_seconds / 60:.1f} minutes, and {limit:g} are allowed")


@control(
    "TP708",
    title="The drill is recorded where the backup comes from",
    severity=Severity.MEDIUM,
    requirement="B2",
    maps=RESTORE,
)
@falsified_by(given=_done(recorded="there is no table public.restore_drills"))
def test_drill_is_recorded(drills: DrillSource, findings: Findings) -> None:
    """restore_drills shows auditors every drill, failed ones too. It needs the source's WRITER_DSN and 003."""
    drill = _record(drills, findings)
    if drill.recorded.endswith("is not set"):
        findings.not_run(f"{drill.recorded}, so nothing can be recorded")
    if drill.recorded:
        findings.add("public.restore_drills", drill.recorded)


@control(
    "TP709",
    title="A restore refuses production",
    severity=Severity.CRITICAL,
    requirement="B2",
    maps=RESTORE,
)
@falsified_by(given=_done(guard=("prod",), guarded=1))
def test_restore_refuses_production(drills: DrillSource, findings: Findings) -> None:
    """The worst restore is one over the database that was to be saved. The guard is asked about the backup's own
    source and every live target, and has to refuse each."""
    drill = _record(drills, findings)
    for name in drill.guard:
        findings.add(name, "a restore would have replaced it")
    if not drill.guarded:
        findings.not_run(f"the guard was asked about no production: {drill.error}")
