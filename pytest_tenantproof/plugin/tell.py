"""After a run: one summary for people, and the dead-man's ping when all is proven."""

import hashlib
from typing import TYPE_CHECKING

from pytest_tenantproof.errors import TenantproofError
from pytest_tenantproof.notify import Alert, Level, open_notifiers, send_all
from pytest_tenantproof.report.shape import headline

if TYPE_CHECKING:
    from pytest_tenantproof.config import Settings
    from pytest_tenantproof.plugin.finish import Written

__all__ = ["MODES", "summary", "tell"]

MODES = ("always", "failure", "never")
_SHOWN = 8  # controls in one message; the report has the others


def summary(written: "Written") -> Alert:
    """Counts, control ids, objects, remedies, the statement's digest and how to verify; no row's content."""
    report, path = written.report, written.path
    red = [c for c in report["controls"] if c["outcome"] in ("failed", "error", "not_run") and not c["waiver"]]
    facts = [("outcome", headline(report))]
    for found in red[:_SHOWN]:
        objects = ", ".join(dict.fromkeys(f["object"] for f in found["findings"][:3]))
        facts.append((f"{found['id']} {found['outcome']}", f"{found['title']}: {objects or found['outcome']}"))
    if len(red) > _SHOWN:
        facts.append(("more", f"{len(red) - _SHOWN} controls, in the report"))
    digest = hashlib.sha256((path / "statement.intoto.jsonl").read_bytes()).hexdigest()
    facts += [("statement sha256", digest), ("verify", f"tenantproof verify --key YOUR.pub {path.name}")]
    fix = next((f["fix"] for c in red for f in c["findings"] if f["fix"]), "open report.html of the run.")
    target, proven = report["target"]["name"], written.exit_status == 0
    level, title = (Level.INFO, "proven") if proven else (Level.FAIL, str(report["verdict"]).replace("_", " "))
    text = f"{len(red)} of {len(report['controls'])} controls need somebody." if red else headline(report)
    remedy = "" if proven else fix
    return Alert("evidence", level, f"{target}: {title}", text, target, report["run_id"], remedy, tuple(facts))


def tell(settings: "Settings", written: "Written", mode: str, job: str) -> str:
    """What could not be delivered, or "". Scratch targets are told about with "always" alone."""
    scratch = written.report["target"]["class"] == "scratch"
    if mode == "never" or (scratch and mode != "always"):
        return ""
    alert = summary(written)
    proven = written.exit_status == 0
    try:
        notifiers = open_notifiers(settings, job)
        if proven:
            send_all(notifiers, Alert("evidence", Level.OK, alert.title, alert.text, alert.target, alert.run))
        if not proven or mode == "always":
            send_all(notifiers, alert)
    except TenantproofError as error:
        return str(error)
    return ""
