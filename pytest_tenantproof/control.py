"""How a control is declared: `@control` says what it proves, `@falsified_by` how it is shown to fail."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

from pytest_tenantproof.errors import UsageError
from pytest_tenantproof.model import Control, Fault, Finding, Severity

__all__ = [
    "FAMILIES",
    "Findings",
    "NotApplicable",
    "NotRun",
    "ProvenElsewhere",
    "control",
    "control_of",
    "falsified_by",
]

ATTRIBUTE = "__tenantproof_control__"

FAMILIES: Mapping[str, tuple[str, str]] = {
    "1": ("invariant", "schema invariants"),
    "2": ("rls", "row security and privileges"),
    "3": ("probe", "live probes"),
    "4": ("guard", "guardrails"),
    "5": ("audit", "audit trail"),
    "6": ("backup", "backup"),
    "7": ("drill", "restore drill"),
    "8": ("canary", "canaries"),
    "9": ("evidence", "the evidence itself"),
}
_GATE = frozenset("12359")
_URGENT = frozenset({Severity.CRITICAL, Severity.HIGH})

Test = TypeVar("Test", bound=Callable[..., None])


class NotApplicable(Exception):
    """Raised in a control that this target cannot or need not run, with the reason."""


class ProvenElsewhere(NotApplicable):
    """Raised in a control that this class of target must not run, so that another target has to prove it."""


class NotRun(Exception):
    """Raised in a control that should have run but could not establish its facts, with the reason."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class Findings:
    """What a control found. Adding one makes the control fail."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}
        self.notes: list[str] = []

    def add(
        self,
        object: _Named | str,
        detail: str,
        *,
        fix: str = "",
        tenant: str | None = None,
        role: str | None = None,
        operation: str | None = None,
    ) -> None:
        """Records that `object` (schema-qualified) is at fault, why, and the SQL that mends it."""
        name = object if isinstance(object, str) else getattr(object, "signature", object.name)
        self._found[Finding(name, detail, fix, tenant, role, operation)] = None

    def extend(self, findings: Iterable[Finding]) -> None:
        self._found.update(dict.fromkeys(findings))

    def note(self, text: str) -> None:
        """Says something beside a control that passes: a warning, never a reason to fail."""
        self.notes.append(text)

    def not_applicable(self, reason: str) -> NoReturn:
        """Ends the control: there is nothing here that it speaks of."""
        raise NotApplicable(reason)

    def elsewhere(self, reason: str) -> NoReturn:
        """Ends the control: this class of target cannot run it by design. A recent bundle of another target with
        the same catalog must prove it, else TP921 fails."""
        raise ProvenElsewhere(reason)

    def not_run(self, reason: str) -> NoReturn:
        """Ends the control: it could not be established. Never reads as passed."""
        raise NotRun(reason)

    def __iter__(self) -> Any:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def control(
    id: str,
    *,
    title: str,
    severity: Severity,
    requirement: str,
    maps: Mapping[str, Iterable[str]] | None,
) -> Callable[[Test], Test]:
    """Declares a test function as the control `id` (letters, then three digits; the first is its family).

    `requirement` is the product requirement it proves (A1..G5). `maps` names the clauses of each framework,
    None where there is none. The docstring is its documentation. Raises UsageError on a malformed one.
    """
    digits = re.fullmatch(r"[A-Z]{2,6}(\d)\d\d", id)
    if not digits or digits[1] not in FAMILIES:
        raise UsageError(
            f"control id {id!r} is malformed.",
            remedy="use capital letters and three digits, e.g. TP203 or ACME101.",
        )
    family, _ = FAMILIES[digits[1]]
    gate = ("gate",) if digits[1] in _GATE and severity in _URGENT else ()

    def declare(test: Test) -> Test:
        doc = inspect.getdoc(test)
        if not doc:
            raise UsageError(f"control {id} has no docstring.", remedy="say why it matters and how to fix it.")
        declared = Control(
            id=id,
            title=title,
            severity=severity,
            requirement=requirement,
            maps=None if maps is None else {name: tuple(clauses) for name, clauses in maps.items()},
            family=family,
            doc=doc,
            faults=tuple(reversed(getattr(test, "__tenantproof_faults__", ()))),
            markers=(family, *gate),
            source=f"{test.__module__.rpartition('.')[2]}.{test.__name__}",
        )
        setattr(test, ATTRIBUTE, declared)
        return test

    return declare


def falsified_by(
    sql: str = "",
    *,
    also: Iterable[str] = (),
    undo: str = "",
    min_version: int = 0,
    settings: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Callable[[Test], Test]:
    """Gives a control a fault that must turn it red. Goes below `@control`; may be repeated.

    `sql` may use the placeholders of `pytest_tenantproof.prove.placeholders`, e.g. {tenant_table}. `also`
    names controls that rightly turn red with it; `undo` is for what ROLLBACK does not undo. A fault that is no
    database's replaces `settings` by field, or the values of fixtures by name (`given`).
    """

    def attach(test: Test) -> Test:
        fault = Fault(sql, tuple(also), undo, min_version, settings or {}, given or {})
        faults = (*getattr(test, "__tenantproof_faults__", ()), fault)
        test.__dict__["__tenantproof_faults__"] = faults
        if declared := control_of(test):
            setattr(test, ATTRIBUTE, dataclasses.replace(declared, faults=(*declared.faults, faults[-1])))
        return test

    return attach


def control_of(test: object) -> Control | None:
    """The declaration on a test function, or None."""
    found = getattr(test, ATTRIBUTE, None)
    return found if isinstance(found, Control) else None
