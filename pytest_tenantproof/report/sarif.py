"""SARIF 2.1.0 (OASIS) for code scanning: one rule a control, one result a finding.

A waived finding is a result with a suppression (section 3.27.23): left out, it would read as mended. A control that
erred or did not run is a notification of a run that was not successful: it has no result, and its absence must not
read as a pass.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from pytest_tenantproof.report.shape import Report, excuse, shown_outcome

__all__ = ["render_sarif"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
# GitHub reads this number, 0 to 10, as the severity of a security rule.
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0"}
_ANCHOR = "tenantproof.toml"


def render_sarif(report: Report) -> bytes:
    """The report's failures as a SARIF log."""
    controls = report["controls"]
    silent = [c for c in controls if c["outcome"] in ("error", "not_run")]
    run = {
        "tool": {
            "driver": {
                "name": "pytest-tenantproof",
                "semanticVersion": report["tool"]["version"],
                "rules": [_rule(control) for control in controls],
            }
        },
        "automationDetails": {"id": f"tenantproof/{report['target']['name']}/{report['run_id']}"},
        "invocations": [
            {
                "executionSuccessful": not silent,
                "startTimeUtc": report["started"],
                "endTimeUtc": report["finished"],
                "toolExecutionNotifications": [_notification(control) for control in silent],
            }
        ],
        "results": [result for at, control in enumerate(controls) for result in _results(at, control)],
        "properties": {"verdict": report["verdict"], "target": report["target"]["name"]},
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, sort_keys=True, indent=1).encode() + b"\n"


def _rule(control: Report) -> dict[str, Any]:
    tags = [f"{name}/{clause}" for name, clauses in control["maps"].items() for clause in clauses]
    return {
        "id": control["id"],
        "name": "".join(word.capitalize() for word in control["title"].split() if word.isalnum()) or control["id"],
        "shortDescription": {"text": control["title"]},
        "fullDescription": {"text": control["doc"]},
        "help": {"text": control["doc"]},
        "defaultConfiguration": {"level": _LEVELS[control["severity"]]},
        "properties": {
            "tags": ["security", *tags],
            "security-severity": _SCORES[control["severity"]],
            "requirement": control["requirement"],
        },
    }


def _notification(control: Report) -> dict[str, Any]:
    return {
        "level": "error",
        "message": {"text": f"{control['id']} {control['outcome']}: {control['reason'] or control['title']}"},
        "associatedRule": {"id": control["id"]},
    }


def _results(index: int, control: Report) -> Iterator[dict[str, Any]]:
    if control["outcome"] != "failed":
        return
    suppressed = [_suppression(control["waiver"])] if shown_outcome(control) == "waived" else []
    nameless = {"object": control["id"], "detail": control["reason"] or control["title"], "fix": ""}
    for finding in control["findings"] or [nameless]:
        text = f"{finding['object']}: {finding['detail']}"
        identity = f"{control['id']}\0{finding['object']}\0{finding['detail']}".encode("utf-8", "backslashreplace")
        yield {
            "ruleId": control["id"],
            "ruleIndex": index,
            "level": _LEVELS[control["severity"]],
            "message": {"text": f"{text}\nFix: {finding['fix']}" if finding["fix"] else text},
            "locations": [
                {
                    "physicalLocation": {"artifactLocation": {"uri": _ANCHOR}, "region": {"startLine": 1}},
                    "logicalLocations": [{"fullyQualifiedName": finding["object"], "kind": "resource"}],
                }
            ],
            "partialFingerprints": {"tenantproof/v1": hashlib.sha256(identity).hexdigest()},
            "suppressions": suppressed,
        }


def _suppression(waiver: Report) -> dict[str, Any]:
    """Of a waived finding. An empty list of these says that a finding is not suppressed."""
    return {"kind": "external", "status": "accepted", "justification": excuse(waiver)}
