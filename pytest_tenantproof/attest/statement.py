"""in-toto Statement v1 with the test-result v0.1 predicate over every file of a bundle."""

import hashlib
from collections.abc import Mapping
from typing import Any

from pytest_tenantproof.attest.strictjson import canonical

__all__ = ["PREDICATE", "STATEMENT", "result_of", "statement", "subjects"]

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"


def subjects(files: Mapping[str, bytes], digests: Mapping[str, str]) -> list[dict[str, Any]]:
    """Files by name, and digests of what is not in the bundle as `tenantproof:<name>`."""
    found = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    found |= {f"tenantproof:{name}": digest for name, digest in digests.items() if digest}
    return [{"name": name, "digest": {"sha256": found[name]}} for name in sorted(found)]


def result_of(report: Mapping[str, Any]) -> str:
    """PASSED, FAILED, or WARNED: proven, but for what was waived."""
    if report["verdict"] != "proven":
        return "FAILED"
    return "WARNED" if any(map(_waived, report["controls"])) else "PASSED"


def _waived(control: Mapping[str, Any]) -> bool:
    return bool(control["waiver"]) and control["outcome"] == "failed"


def statement(report: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """The canonical bytes to sign. Waived controls are warned, whatever did not pass is failed."""
    tests: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for control in report["controls"]:
        outcome = control["outcome"]
        if _waived(control) or outcome == "not_applicable":
            tests["warnedTests"].append(control["id"])
        else:
            tests["passedTests" if outcome == "passed" else "failedTests"].append(control["id"])
    configuration = [{"name": "report.json", "digest": {"sha256": hashlib.sha256(files["report.json"]).hexdigest()}}]
    predicate = {"result": result_of(report), "configuration": configuration, **tests}
    return canonical(
        {
            "_type": STATEMENT,
            "predicateType": PREDICATE,
            "subject": subjects(files, report["digests"]),
            "predicate": predicate,
        }
    )
