"""What the rooms hand to each other: frozen, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

__all__ = [
    "Control",
    "Elsewhere",
    "Falsified",
    "Fault",
    "Finding",
    "Outcome",
    "Result",
    "Scope",
    "Severity",
    "Verdict",
    "Waiver",
    "verdict_of",
]


class Outcome(StrEnum):
    """What became of one control. `not_applicable` and `not_run` always carry a reason."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    NOT_APPLICABLE = "not_applicable"
    NOT_RUN = "not_run"


class Severity(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Verdict(StrEnum):
    PROVEN = "proven"
    FAILED = "failed"
    NOT_PROVEN = "not_proven"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong. `object` is schema-qualified; nothing here may hold row content."""

    object: str
    detail: str
    fix: str = ""
    tenant: str | None = None
    role: str | None = None
    operation: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What must turn a control red; `also` names controls that may turn red beside it.

    `sql` changes the database: `{placeholders}` are filled from the target's own catalog, `undo` is for what a
    rollback does not undo. Where the fault is no database's, `settings` replaces fields of the settings, and
    `given` the values of the control's fixtures by name.
    """

    sql: str = ""
    also: tuple[str, ...] = ()
    undo: str = ""
    min_version: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Control:
    """One requirement as a check. `maps` is framework -> clauses; an empty mapping says there is none."""

    id: str
    title: str
    severity: Severity
    requirement: str
    maps: Mapping[str, tuple[str, ...]] | None
    family: str
    doc: str
    faults: tuple[Fault, ...] = ()
    markers: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Waiver:
    """[[tenantproof.waivers]]: a finding that is accepted for a time."""

    control: str
    """Id of the control."""
    object: str
    """The finding's object, or a pattern (*, ?); for a critical control it must hold a name."""
    owner: str
    """Whose risk it is."""
    approver: str
    """Who accepted it: somebody else."""
    reason: str
    """Why it may stay until then."""
    expires: date
    """The last day it holds, at most a year ahead."""
    ticket: str = ""
    """Where the work on it is tracked."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where a control that this target cannot run by design was run last; `problem` says why that proves nothing.

    `reason` is why it cannot run here, `sha256` that of the bundle's report.json, `age_days` from its end to now.
    """

    control: str
    reason: str
    target: str = ""
    run_id: str = ""
    sha256: str = ""
    finished: str = ""
    age_days: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Falsified:
    """How many of a control's faults were injected into a clone, and how many it detected.

    `untried` could not be injected, for `reason`. `others` are further controls that turned red with them and that
    the faults do not name: the schema, or the control, mixes two things.
    """

    faults: int
    detected: int
    reason: str = ""
    untried: int = 0
    others: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Missed one: error. Not all could be tried, or there is none to try: not run."""
        if self.detected < self.faults:
            return Outcome.ERROR
        return Outcome.NOT_RUN if self.untried or not self.faults else Outcome.PASSED


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one control. `waiver` is an overlay: `outcome` stays the true one. `elsewhere`: not
    applicable here by design, so another target's bundle has to prove it."""

    control: str
    outcome: Outcome
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    duration_s: float = 0.0
    waiver: Waiver | None = None
    falsified: Falsified | None = None
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What was selected of the whole catalogue. `qualified` scopes can never read as an unqualified proof."""

    selected: int
    of: int
    expression: str = ""
    narrowed: bool = False
    missing: tuple[str, ...] = field(default=())


_ORDER = (
    (Outcome.ERROR, Verdict.NOT_PROVEN, 2),
    (Outcome.FAILED, Verdict.FAILED, 1),
    (Outcome.NOT_RUN, Verdict.NOT_PROVEN, 2),
)


def verdict_of(results: tuple[Result, ...], scope: Scope) -> tuple[Verdict, int]:
    """The verdict and exit status: error > failed > not_run > passed. Nothing passed is never proven.

    A waiver excuses a failure, never an error or a control that did not run.
    """
    seen = {r.outcome for r in results if not (r.waiver and r.outcome is Outcome.FAILED)}
    for outcome, verdict, status in _ORDER:
        if outcome in seen:
            return verdict, status
    if scope.narrowed or scope.missing or Outcome.PASSED not in seen:
        return Verdict.NOT_PROVEN, 2
    return Verdict.PROVEN, 0
