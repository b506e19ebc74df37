"""report.json: the detailed record of a run, from frozen parts to canonical bytes (docs/report.schema.json)."""

import hashlib
import json
import marshal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema

from pytest_tenantproof.errors import EvidenceError
from pytest_tenantproof.model import Control, Elsewhere, Falsified, Result, Scope, Verdict

__all__ = ["SCHEMA", "Run", "check_schema", "record", "to_bytes"]

SCHEMA = "tenantproof/report/1"
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a report says. Times are UTC, RFC 3339. `target` and `tool` are as in the schema."""

    run_id: str
    started: str
    finished: str
    verdict: Verdict
    target: Mapping[str, Any]
    tool: Mapping[str, Any]
    scope: Scope
    results: tuple[tuple[Control, Result], ...]
    previous: Mapping[str, str] | None
    digests: Mapping[str, str] = field(default_factory=dict)
    clocks: Mapping[str, str] = field(default_factory=dict)
    ephemeral_key: bool = False
    attestations: Sequence[Mapping[str, Any]] = ()
    """What people vouch for, and whether that has ended."""
    elsewhere: Sequence[Elsewhere] = ()
    """What this class of target cannot run, and what proves it."""
    prove: Sequence[str] | None = None
    """What is to be known of the clone that faults were injected into; None where none were."""
    backup: Mapping[str, Any] | None = None
    """The newest verified backup, as in the schema; None where none was looked at."""
    drill: Mapping[str, Any] | None = None
    """The restore drill, as in the schema; None where none was done."""


def record(run: Run) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "started": run.started,
        "finished": run.finished,
        "verdict": str(run.verdict),
        "target": dict(run.target),
        "tool": dict(run.tool),
        "scope": {
            "selected": run.scope.selected,
            "of": run.scope.of,
            "expression": run.scope.expression,
            "narrowed": run.scope.narrowed,
            **({"missing": sorted(set(run.scope.missing))} if run.scope.missing else {}),
        },
        "previous": dict(run.previous) if run.previous else None,
        "digests": dict(run.digests),
        "clocks": dict(run.clocks),
        "signing": {"ephemeral": run.ephemeral_key},
        **({} if run.prove is None else {"prove": {"notes": list(run.prove)}}),
        **({"attestations": [dict(a) for a in run.attestations]} if run.attestations else {}),
        **({} if run.backup is None else {"backup": dict(run.backup)}),
        **({} if run.drill is None else {"drill": dict(run.drill)}),
        "proven_elsewhere": [asdict(there) for there in run.elsewhere],
        "controls": [_control(declared, result) for declared, result in run.results],
    }


def _control(declared: Control, result: Result) -> dict[str, Any]:
    waiver = asdict(result.waiver) | {"expires": result.waiver.expires.isoformat()} if result.waiver else None
    return {
        "id": declared.id,
        "title": declared.title,
        "severity": str(declared.severity),
        "requirement": declared.requirement,
        "maps": {name: list(clauses) for name, clauses in (declared.maps or {}).items()},
        "doc": declared.doc,
        "outcome": str(result.outcome),
        "reason": result.reason,
        "waiver": waiver,
        "duration_s": result.duration_s,
        "falsified": _falsified(result.falsified) if result.falsified else None,
        "findings": [asdict(finding) for finding in result.findings],
    }


def _falsified(found: Falsified) -> dict[str, Any]:
    return {**asdict(found), "others": list(found.others), "outcome": str(found.outcome)}


@cache
def _validator() -> jsonschema.protocols.Validator:
    shipped = resources.files("pytest_tenantproof").joinpath("_schemas", "report.schema.json")
    checkout = Path(__file__).parents[2] / "docs" / "report.schema.json"
    text = shipped.read_text("utf-8") if shipped.is_file() else checkout.read_text("utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


_sound: set[bytes] = set()
"""Digests of controls that are as the schema says: from run to run most of them are the same."""


def check_schema(report: Any) -> str:
    """ "" when the report is as the schema says, else where and how it is not."""
    controls = report.get("controls") if isinstance(report, dict) else None
    new = {} if not isinstance(controls, list) else {_digest(c): c for c in controls}
    for known in _sound.intersection(new):
        del new[known]
    if isinstance(controls, list) and _validator().is_valid(report | {"controls": list(new.values())}):
        if len(_sound) < _MOST:
            _sound.update(new)
        return ""
    error = jsonschema.exceptions.best_match(_validator().iter_errors(report))
    return "it is not as the schema says" if error is None else f"{error.json_path}: {error.message[:200]}"


def _digest(control: Any) -> bytes:
    """Of a control whatever its duration, where that is one. Types count: 1, 1.0 and true differ."""
    if isinstance(control, dict) and type(control.get("duration_s")) is float and control["duration_s"] >= 0:
        control = control | {"duration_s": 0.0}
    # Another spelling of the same control only means that it is gone through again.
    return hashlib.sha256(marshal.dumps(control, 0)).digest()


def to_bytes(report: Mapping[str, Any]) -> bytes:
    """The bytes that are stored and signed. Raises EvidenceError when they would not match the schema."""
    if problem := check_schema(report):
        raise EvidenceError(f"the report is not as its schema says: {problem}.", remedy="report this as a defect.")
    return json.dumps(report, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"
