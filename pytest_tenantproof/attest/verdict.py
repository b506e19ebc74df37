"""The verdict that a report's own results lead to, by the same rule as when it was written."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from pytest_tenantproof.model import Control, Outcome, Result, Scope, Severity, Verdict, Waiver, verdict_of
from pytest_tenantproof.waivers import problems

__all__ = ["inconsistency", "recomputed"]


def inconsistency(report: Mapping[str, Any]) -> str:
    """How the stated scope does not fit the results, "" where it does. The report is as its schema says."""
    scope, ids = report["scope"], [control["id"] for control in report["controls"]]
    if len(set(ids)) != len(ids):
        return "a control has two results"
    if scope["selected"] != len(ids) or scope["selected"] > scope["of"]:
        return f"{len(ids)} results, where {scope['selected']} of {scope['of']} controls were selected"
    left = {there["control"] for there in report.get("proven_elsewhere", ())}
    if wrong := sorted(c["id"] for c in report["controls"] if c["id"] in left and c["outcome"] != "not_applicable"):
        return f"{wrong[0]} is left to another target, and has a result here"
    return ""


def recomputed(report: Mapping[str, Any]) -> Verdict:
    """What the verdict has to be: waivers that are unsound excuse nothing, and what is proven nowhere is missing."""
    days = [date.fromisoformat(report[when][:10]) for when in ("started", "finished")]
    results = tuple(_result(control, days) for control in report["controls"])
    scope = report["scope"]
    nowhere = (there["control"] for there in report.get("proven_elsewhere", ()) if there["problem"])
    missing = (*scope.get("missing", ()), *nowhere)
    stated = Scope(scope["selected"], scope["of"], scope["expression"], scope["narrowed"], missing)
    return verdict_of(results, stated)[0]


def _result(told: Mapping[str, Any], days: list[date]) -> Result:
    waiver = _waiver(told["waiver"]) if told["waiver"] else None
    if waiver and not any(_sound(waiver, told, day) for day in days):
        waiver = None
    return Result(told["id"], Outcome(told["outcome"]), waiver=waiver)


def _waiver(told: Mapping[str, str]) -> Waiver | None:
    """None for a date that is none: the schema knows digits only."""
    try:
        fields: dict[str, Any] = {**told, "expires": date.fromisoformat(told["expires"])}
        return Waiver(**fields)
    except ValueError:
        return None


def _sound(waiver: Waiver, told: Mapping[str, Any], day: date) -> bool:
    severity = Severity(told["severity"])
    known = {told["id"]: Control(told["id"], told["title"], severity, told["requirement"], None, "", "")}
    return waiver.control == told["id"] and not any(problems(waiver, known, day))
