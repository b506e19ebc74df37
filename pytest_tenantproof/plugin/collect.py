"""Control functions become pytest items, whatever the user's naming patterns say."""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof import controls
from pytest_tenantproof.config import Settings
from pytest_tenantproof.control import Findings, NotApplicable, NotRun, ProvenElsewhere, control_of
from pytest_tenantproof.errors import UsageError, redact
from pytest_tenantproof.model import Control, Falsified, Finding, Outcome, Result, Scope

__all__ = [
    "ControlItem",
    "control_items",
    "default_paths",
    "first_line",
    "from_wire",
    "scattered",
    "scope_of",
    "to_wire",
]

_LONG = frozenset({"probes", "trail", "backups", "drills", "declared", "readings"})
_MARKER_ONLY = re.compile(r"\w+( or \w+)*")


class ControlFailed(Exception):
    """The control's findings, as the failure pytest shows."""


class ControlItem(pytest.Function):
    """One control. Findings make it fail; an exception makes it an error."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        declared = control_of(self.obj)
        if declared is None:
            raise UsageError(f"{self.name} is not a control.", remedy="decorate it with @control.")
        self.control = declared
        self.result: Result | None = None
        for marker in declared.markers:
            self.add_marker(marker)
        self.extra_keyword_matches.add(declared.id)
        self.fixturenames = list(dict.fromkeys((*self.fixturenames, "findings")))

    def __repr__(self) -> str:
        return f"<Control {self.control.id} [{self.control.severity}] {self.control.title}>"

    def reportinfo(self) -> tuple[Path, int | None, str]:
        path, line, _ = super().reportinfo()
        return Path(path), line, f"{self.control.id} {self.control.title}"

    def runtest(self) -> None:
        started = time.monotonic()
        outcome, reason, found = Outcome.ERROR, "", self._findings()
        elsewhere = False
        try:
            super().runtest()
            outcome, reason = (Outcome.FAILED if len(found) else Outcome.PASSED), "; ".join(found.notes)
        except NotApplicable as why:
            outcome, reason = Outcome.NOT_APPLICABLE, str(why)
            elsewhere = isinstance(why, ProvenElsewhere)
            raise
        except (NotRun, pytest.skip.Exception) as why:
            outcome, reason = Outcome.NOT_RUN, str(why)
            raise
        except AssertionError:
            outcome, reason = Outcome.FAILED, f"an assertion of {self.control.source} did not hold"
            raise
        except BaseException as error:
            reason = redact(f"{type(error).__name__}: {first_line(error)}")
            raise
        finally:
            took = round(time.monotonic() - started, 4)
            self.result = Result(self.control.id, outcome, reason, tuple(found), took, elsewhere=elsewhere)
        if len(found):
            raise ControlFailed("\n".join(f"{f.object}: {f.detail}" for f in found))

    def _findings(self) -> Findings:
        found = self.funcargs["findings"]
        if not isinstance(found, Findings):
            raise UsageError("the fixture `findings` was overridden.", remedy="rename yours.")
        return found

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]  # without the style that pytest never gives
        if isinstance(excinfo.value, ControlFailed | NotRun):
            return f"{self.control.id} {self.control.title}\n{excinfo.value}"
        return super().repr_failure(excinfo)


def first_line(error: BaseException) -> str:
    """What an error says, without the DETAIL lines in which a server quotes rows."""
    return next(iter(str(error).splitlines()), "")


def default_paths(settings: Settings) -> list[str]:
    """The shipped control files and the user's own."""
    return [str(path) for path in (*controls.files(), *controls.own_files(settings))]


def to_wire(result: Result) -> dict[str, Any]:
    """A result as plain data, to travel in a report from an xdist worker."""
    return {**asdict(result), "outcome": str(result.outcome)}


def from_wire(data: dict[str, Any]) -> Result:
    findings = tuple(Finding(**finding) for finding in data["findings"])
    said = data["falsified"]
    falsified = Falsified(**{**said, "others": tuple(said["others"])}) if said else None
    outcome = Outcome(data["outcome"])
    return Result(
        data["control"],
        outcome,
        data["reason"],
        findings,
        data["duration_s"],
        falsified=falsified,
        elsewhere=data["elsewhere"],
    )


def scope_of(config: pytest.Config, catalogue: Iterable[Control], *, paths: bool) -> tuple[Scope, tuple[str, ...]]:
    """The stated scope, and the ids that must have a result. Only whole markers stay unqualified."""
    everything = tuple(catalogue)
    expression = str(config.getoption("markexpr") or "").strip()
    options = {name: config.getoption(name, default=None) for name in ("keyword", "deselect", "lf", "last_failed")}
    narrowed = paths or any(options.values()) or bool(expression and not _MARKER_ONLY.fullmatch(expression))
    wanted = set(expression.split(" or ")) if expression and not narrowed else None
    chosen = tuple(c.id for c in everything if wanted is None or wanted & set(c.markers))
    said = " ".join(
        filter(None, (expression, *(f"{k}={v}" for k, v in options.items() if v), "paths" if paths else ""))
    )
    return Scope(len(chosen), len(everything), said, narrowed), chosen


def judged_at_the_end(item: pytest.Item) -> bool:
    """Whether a control needs the results of all others: the controller judges it, no worker runs it."""
    return isinstance(item, ControlItem) and "ended" in item.fixturenames


def scattered(items: list[pytest.Item]) -> list[pytest.Item]:
    """The items with the long ones spread evenly: pytest-xdist hands them out in runs, and a run of long ones would
    leave the other workers idle at the end. The same order on every worker."""
    long = [item for item in items if _LONG & set(getattr(item, "fixturenames", ()))]
    short = [item for item in items if item not in long]
    at = [round(number * len(short) / len(long)) for number in range(len(long) + 1)] if long else [0, len(short)]
    spread = [each for number, item in enumerate(long) for each in (item, *short[at[number] : at[number + 1]])]
    return spread or short


def control_items(items: Iterable[pytest.Item]) -> Iterator[ControlItem]:
    return (item for item in items if isinstance(item, ControlItem))
