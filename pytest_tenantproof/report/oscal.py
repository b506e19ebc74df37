"""OSCAL 1.2.1 assessment results (NIST): one observation and one finding a control.

OSCAL knows satisfied and not-satisfied only. Satisfied is said of controls that passed; waived, erred, not
run and not applicable ones are not satisfied, with the outcome in `reason` and as a property.
"""

import json
import re
import uuid
from typing import Any

from pytest_tenantproof.report.shape import Report, excuse, headline, shown_outcome

__all__ = ["render_oscal"]

_VERSION = "1.2.1"
_NAMESPACE = uuid.UUID("5a2b1f0e-6e0c-5d0a-9a57-5d0f6f1f7a3c")
_PROPERTIES = "https://pytest-tenantproof.example/ns/oscal"
_REASONS = {"passed": "pass", "failed": "fail", "waived": "fail"}


def render_oscal(report: Report) -> bytes:
    """The report as an assessment-results document. Identifiers follow from the run id, so it is reproducible."""
    plan = _uuid(report, "plan")
    document = {
        "assessment-results": {
            "uuid": _uuid(report, "document"),
            "metadata": {
                "title": f"Tenant isolation and recovery: {_line(report['target']['name'])}",
                "last-modified": report["finished"],
                "version": report["run_id"],
                "oscal-version": _VERSION,
            },
            "import-ap": {"href": f"#{plan}"},
            "results": [_result(report)],
            "back-matter": {
                "resources": [
                    {
                        "uuid": plan,
                        "title": "The control catalogue and configuration of the run",
                        "description": f"Controls sha256 {report['tool']['controls_sha256']}, "
                        f"configuration sha256 {report['digests'].get('config') or 'none'}.",
                    }
                ]
            },
        }
    }
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def _uuid(report: Report, *names: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\0".join((report["run_id"], report["target"]["name"], *names))))


def _line(text: str) -> str:
    """OSCAL strings are single-line, without white space at either end, and not empty."""
    return re.sub(r"\s+", " ", text).strip() or "-"


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": name, "ns": _PROPERTIES, "value": _line(value)}


def _result(report: Report) -> dict[str, Any]:
    controls = report["controls"]
    result: dict[str, Any] = {
        "uuid": _uuid(report, "result"),
        "title": _line(headline(report)),
        "description": f"Run {report['run_id']} against {_line(report['target']['name'])}.",
        "start": report["started"],
        "end": report["finished"],
        "props": [_property("verdict", report["verdict"]), _property("scope", report["scope"]["expression"] or "all")],
        "reviewed-controls": {"control-selections": [_selection(controls)]},
    }
    if controls:
        result["observations"] = [_observation(report, control) for control in controls]
        result["findings"] = [_finding(report, control) for control in controls]
    return result


def _selection(controls: list[Report]) -> dict[str, Any]:
    if not controls:
        return {"description": "No control was in scope."}
    return {"include-controls": [{"control-id": control["id"].lower()} for control in controls]}


def _observation(report: Report, control: Report) -> dict[str, Any]:
    found = [f"{f['object']}: {f['detail']}" for f in control["findings"]]
    observation: dict[str, Any] = {
        "uuid": _uuid(report, "observation", control["id"]),
        "title": _line(control["title"]),
        "description": "\n".join([control["reason"] or control["title"], *found]),
        "methods": ["TEST"],
        "types": ["control-objective"],
        "collected": report["finished"],
        "props": [_property("severity", control["severity"]), _property("outcome", shown_outcome(control))],
    }
    return observation


def _finding(report: Report, control: Report) -> dict[str, Any]:
    outcome = shown_outcome(control)
    clauses = [
        _property("requirement", f"{name} {clause}") for name, listed in control["maps"].items() for clause in listed
    ]
    status = {
        "state": "satisfied" if outcome == "passed" else "not-satisfied",
        "reason": _REASONS.get(outcome, "other"),
    }
    if outcome not in ("passed", "failed"):
        status["remarks"] = f"{outcome}: {_why(control)}"
    return {
        "uuid": _uuid(report, "finding", control["id"]),
        "title": f"{control['id']} {_line(control['title'])}",
        "description": control["doc"],
        "props": [_property("outcome", outcome), *clauses],
        "target": {"type": "objective-id", "target-id": control["id"].lower(), "status": status},
        "related-observations": [{"observation-uuid": _uuid(report, "observation", control["id"])}],
    }


def _why(control: Report) -> str:
    if control["waiver"]:
        return excuse(control["waiver"])
    return str(control["reason"]) or "no reason was given"
