"""Waivers: an owner, another approver, a reason and an end. An unsound waiver excuses nothing."""

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase

from pytest_tenantproof.model import Control, Elsewhere, Finding, Outcome, Result, Severity, Waiver

__all__ = ["EndOfRun", "apply_waivers", "covers", "problems"]

_LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class EndOfRun:
    """What is known when every control has run: results before any waiver, the waivers, what others have to prove."""

    results: tuple[Result, ...]
    waivers: tuple[Waiver, ...]
    elsewhere: tuple[Elsewhere, ...] = ()


def problems(waiver: Waiver, known: Mapping[str, Control], today: date) -> Iterator[str]:
    """What makes a waiver unsound, in words. Nothing: it is sound."""
    control = known.get(waiver.control)
    if control is None:
        yield f"names {waiver.control}, which is no control"
    if not all(text.strip() for text in (waiver.owner, waiver.approver, waiver.reason, waiver.object)):
        yield "lacks an owner, an approver, a reason or an object"
    if _person(waiver.owner) == _person(waiver.approver):
        yield f"is approved by its own owner, {waiver.owner}"
    if waiver.expires < today:
        yield f"expired on {waiver.expires}"
    if waiver.expires > today + _LONGEST:
        yield f"runs until {waiver.expires}, longer than a year"
    # A bracket can stand for any character, so a pattern with one names nothing.
    if control and control.severity is Severity.CRITICAL and not re.fullmatch(r"[^[]*\w[^[]*", waiver.object):
        yield f"covers every object ({waiver.object}) of the critical control {control.id}"


def _person(name: str) -> str:
    """A name without what cannot be seen, so that nobody is two people."""
    plain = unicodedata.normalize("NFKC", name)
    return "".join(c for c in plain if unicodedata.category(c) != "Cf").strip().casefold()


def covers(waiver: Waiver, control_id: str, finding: Finding) -> bool:
    """Whether a waiver speaks of a finding: same control, and an object that its pattern matches."""
    return waiver.control == control_id and fnmatchcase(finding.object, waiver.object)


def apply_waivers(
    results: Iterable[Result], waivers: Iterable[Waiver], known: Mapping[str, Control], today: date
) -> tuple[Result, ...]:
    """The results, with the waiver that ends first on each failure whose every finding a sound waiver covers.

    The outcome stays the true one. Errors and what did not run cannot be waived.
    """
    sound = [waiver for waiver in waivers if not any(problems(waiver, known, today))]
    return tuple(_with_waiver(result, sound) for result in results)


def _with_waiver(result: Result, sound: list[Waiver]) -> Result:
    if result.outcome is not Outcome.FAILED:
        return result
    findings = result.findings or (Finding(result.control, result.reason),)
    used: list[Waiver] = []
    for finding in findings:
        found = [waiver for waiver in sound if covers(waiver, result.control, finding)]
        if not found:
            return result
        used += found
    return dataclasses.replace(result, waiver=min(used, key=lambda waiver: waiver.expires))
