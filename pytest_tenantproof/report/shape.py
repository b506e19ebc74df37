"""Reads report.json for the renderers: families, counts, wording. One place for each word."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_tenantproof.control import FAMILIES

__all__ = [
    "ORDER",
    "SEVERITIES",
    "Report",
    "counts",
    "excuse",
    "families",
    "family",
    "headline",
    "problems",
    "shown_outcome",
]

Report = Mapping[str, Any]

ORDER = ("error", "failed", "not_run", "waived", "not_applicable", "passed")
SEVERITIES = ("critical", "high", "medium", "low")
_WORDS = {"proven": "PROVEN", "failed": "FAILED", "not_proven": "NOT PROVEN"}


def shown_outcome(control: Report) -> str:
    """The outcome for people: a waived failure reads as waived, never as passed."""
    return "waived" if control["waiver"] and control["outcome"] == "failed" else str(control["outcome"])


def excuse(waiver: Report) -> str:
    """Why a failure is waived, by whom and until when."""
    return f"{waiver['reason']} (approved by {waiver['approver']} until {waiver['expires']})"


def counts(report: Report) -> dict[str, int]:
    """Controls by shown outcome, worst first; outcomes that did not occur are left out."""
    found = Counter(shown_outcome(control) for control in report["controls"])
    return {outcome: found[outcome] for outcome in ORDER if found[outcome]}


def headline(report: Report) -> str:
    """The verdict with its scope: 'PROVEN (scope: gate, 44 of 112)'."""
    scope = report["scope"]
    word = _WORDS[report["verdict"]]
    waived = sum(shown_outcome(control) == "waived" for control in report["controls"])
    missing = len(scope.get("missing", ()))
    excused = (f", {waived} waived" if waived else "") + (f", {missing} not established" if missing else "")
    if scope["selected"] == scope["of"] and not scope["expression"]:
        return f"{word} (all {scope['of']} controls{excused})"
    return f"{word} (scope: {scope['expression'] or 'partial'}, {scope['selected']} of {scope['of']}{excused})"


def family(control: Report) -> str:
    """The digit of a control's family."""
    return next(c for c in str(control["id"]) if c.isdigit())


def problems(report: Report) -> list[Report]:
    """Controls that need a person: worst outcome first, then severity, then id."""
    found = [c for c in report["controls"] if shown_outcome(c) not in ("passed", "not_applicable")]
    return sorted(found, key=lambda c: (ORDER.index(shown_outcome(c)), SEVERITIES.index(c["severity"]), c["id"]))


def families(report: Report) -> list[tuple[str, str, Sequence[Report]]]:
    """(digit, name, controls) of each family that has a control in the report."""
    groups: dict[str, list[Report]] = {}
    for control in report["controls"]:
        groups.setdefault(family(control), []).append(control)
    return [(digit, FAMILIES[digit][1], groups[digit]) for digit in sorted(groups)]
