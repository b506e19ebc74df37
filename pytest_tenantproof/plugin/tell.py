"""After a run: what is new for people, what is gone, and the dead-man's ping when all is proven."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_tenantproof.attest.alerts import write_alerts
from pytest_tenantproof.errors import TenantproofError
from pytest_tenantproof.model import Severity
from pytest_tenantproof.notify import Alert, Cause, Change, Delivery, Level, News, open_desk, worst
from pytest_tenantproof.report.shape import headline

if TYPE_CHECKING:
    from pytest_tenantproof.attest.sign import Signer
    from pytest_tenantproof.config import Settings
    from pytest_tenantproof.plugin.finish import Written

__all__ = ["MODES", "causes", "settled", "summary", "tell", "tell_broken"]

MODES = ("always", "failure", "never")
_SHOWN = 8  # controls in one message; the report has the others
_RUN, _VERDICT, _WARNING = "run", "verdict", "warning"


def tell(settings: "Settings", written: "Written", mode: str, job: str, signer: "Signer") -> list[str]:
    """What could not be delivered, or not be recorded. What became of each alert is added to the bundle."""
    report = written.report
    target = report["target"]["name"]
    if not _heard_of(settings, target, mode):
        return []
    proven = written.exit_status == 0
    news = News(
        target,
        causes(report, proven=proven),
        lambda cause: settled(report, job, cause, proven=proven),
        lambda change: summary(written, change),
        always=mode == "always",
        well=proven,
    )
    done: tuple[Delivery, ...] = ()
    problems = []
    try:
        done = open_desk(settings, job).tell(news)
        if done:
            write_alerts(written.path, [_recorded(delivery) for delivery in done], signer, datetime.now(UTC))
    except TenantproofError as error:
        problems.append(str(error))
    return [*problems, *(delivery.told for delivery in done if delivery.problem)]


def tell_broken(settings: "Settings", target: str, mode: str, job: str, error: TenantproofError) -> list[str]:
    """A run that left no evidence is told like a control that failed; what could not be delivered."""
    if not _heard_of(settings, target, mode):
        return []
    cause = Cause(target, _RUN, job, Severity.HIGH)
    facts = (("job", job), ("error", type(error).__name__))
    title = f"{target}: no evidence could be made"
    alert = Alert("run", Level.FAIL, title, error.message, target, "", error.remedy, facts, Severity.HIGH)
    try:
        done = open_desk(settings, job).tell(News(target, (cause,), lambda _: False, lambda _: alert))
    except TenantproofError as untold:
        return [str(untold)]
    return [delivery.told for delivery in done if delivery.problem]


def causes(report: Mapping[str, Any], *, proven: bool) -> tuple[Cause, ...]:
    """One for each control and object, and each control that passed with a warning; a run that is not proven
    without any has its scope for a cause."""
    target = report["target"]["name"]
    found = [
        Cause(target, c["id"], name, Severity(c["severity"]))
        for c in _red(report)
        for name in dict.fromkeys(f["object"] for f in c["findings"]) or [""]
    ]
    if not found and not proven:
        found = [Cause(target, _VERDICT, report["scope"]["expression"], Severity.HIGH)]
    found += [Cause(target, c["id"], _WARNING, Severity.LOW) for c in _warned(report)]
    return tuple(found)


def settled(report: Mapping[str, Any], job: str, cause: Cause, *, proven: bool) -> bool:
    """Whether this run established that a cause it does not name is gone; what it did not look at may still be."""
    if cause.what == _RUN:
        return cause.object == job
    if cause.what == _VERDICT:
        return proven and report["scope"]["expression"] in ("", cause.object)
    outcomes = {c["id"]: "waived" if c["waiver"] else c["outcome"] for c in report["controls"]}
    return outcomes.get(cause.what) in ("passed", "failed", "waived")


def summary(written: "Written", change: Change) -> Alert:
    """Counts, control ids, objects, remedies, the statement's digest and how to verify; no row's content."""
    report, path = written.report, written.path
    raised = {cause.what for cause in change.raised}
    red = sorted(_red(report), key=lambda c: (c["id"] not in raised, list(Severity).index(c["severity"])))
    warned = _warned(report)
    facts = [("outcome", headline(report)), *_listed(red), *((c["id"], c["reason"]) for c in warned[:_SHOWN])]
    digest = hashlib.sha256((path / "statement.intoto.jsonl").read_bytes()).hexdigest()
    facts += [("gone since", ", ".join(sorted({entry.cause.what for entry in change.gone})))]
    facts += [("statement sha256", digest), ("verify", f"tenantproof verify --key YOUR.pub {path.name}")]
    fix = next((f["fix"] for c in red for f in c["findings"] if f["fix"]), "open report.html of the run.")
    target, proven = report["target"]["name"], written.exit_status == 0
    level, title = (Level.INFO, "proven") if proven else (Level.FAIL, str(report["verdict"]).replace("_", " "))
    if proven and warned:
        level, title = Level.WARN, "proven, with warnings"
    counted = f"{len(red)} of {len(report['controls'])} controls need somebody"
    text = (
        f"{counted}: {len(change.new)} new, {len(change.due + change.still)} told before." if red else headline(report)
    )
    severity = worst(change.raised or change.still)
    remedy = "" if proven else fix
    return Alert(
        "evidence", level, f"{target}: {title}", text, target, report["run_id"], remedy, tuple(facts), severity
    )


def _listed(red: list[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    for found in red[:_SHOWN]:
        objects = ", ".join(dict.fromkeys(f["object"] for f in found["findings"][:3]))
        yield f"{found['id']} {found['outcome']}", f"{found['title']}: {objects or found['outcome']}"
    if len(red) > _SHOWN:
        yield "more", f"{len(red) - _SHOWN} controls, in the report"


def _red(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [c for c in report["controls"] if c["outcome"] in ("failed", "error", "not_run") and not c["waiver"]]


def _warned(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [c for c in report["controls"] if c["outcome"] == "passed" and c["reason"].startswith("warning: ")]


def _heard_of(settings: "Settings", target: str, mode: str) -> bool:
    """Scratch targets are told about with "always" alone."""
    return mode == "always" or (mode == "failure" and settings.target(target).class_ != "scratch")


def _recorded(delivery: Delivery) -> dict[str, str]:
    at = f"{delivery.at:%Y-%m-%dT%H:%M:%SZ}"
    return {"channel": delivery.channel, "alert": delivery.title, "at": at, "problem": delivery.problem}
