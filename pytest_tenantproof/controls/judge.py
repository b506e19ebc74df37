"""Runs a control that needs nothing but the catalog, without pytest: for negative controls and benchmarks."""

import dataclasses
import importlib
import inspect
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pytest_tenantproof import controls
from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.control import Findings, NotApplicable, NotRun, ProvenElsewhere, control_of
from pytest_tenantproof.model import Fault, Outcome, Result

__all__ = ["functions", "judge", "judge_function", "judge_given", "static_ids"]

_STATIC = {"catalog", "findings"}


@cache
def functions() -> Mapping[str, Callable[..., None]]:
    """The shipped control functions by id."""
    found: dict[str, Callable[..., None]] = {}
    for file in controls.files():
        module = importlib.import_module(f"{controls.__name__}.{file.stem}")
        for item in vars(module).values():
            if declared := control_of(item):
                found[declared.id] = item
    return dict(sorted(found.items()))


@cache
def static_ids() -> tuple[str, ...]:
    """Controls that judge the snapshot alone."""
    return tuple(i for i, f in functions().items() if set(inspect.signature(f).parameters) <= _STATIC)


def judge_given(control_id: str, catalog: Catalog, fault: Fault) -> Result:
    """The result of a control under a fault of settings or fixtures, on an unchanged catalog."""
    changed = Catalog(catalog.snapshot, dataclasses.replace(catalog.settings, **fault.settings))
    return judge(control_id, changed, **fault.given)


def judge(control_id: str, catalog: Catalog, **fixtures: Any) -> Result:
    """The result of one shipped control on a catalog; `fixtures` are for those that need more than that."""
    return judge_function(functions()[control_id], control_id, catalog, **fixtures)


def judge_function(function: Callable[..., None], control_id: str, catalog: Catalog, **fixtures: Any) -> Result:
    """The same for any control function. Fixtures that it does not ask for are left out."""
    wanted = inspect.signature(function).parameters
    given = {"catalog": catalog, **fixtures}
    findings, started = Findings(), time.monotonic()
    outcome, reason, elsewhere = Outcome.ERROR, "", False
    try:
        function(findings=findings, **{name: value for name, value in given.items() if name in wanted})
        outcome, reason = (Outcome.FAILED if len(findings) else Outcome.PASSED), "; ".join(findings.notes)
    except NotApplicable as why:
        outcome, reason, elsewhere = Outcome.NOT_APPLICABLE, str(why), isinstance(why, ProvenElsewhere)
    except NotRun as why:
        outcome, reason = Outcome.NOT_RUN, str(why)
    except Exception as error:  # noqa: BLE001 - a crashed control is an error, whatever crashed it
        reason = f"{type(error).__name__}: {error}"
    took = time.monotonic() - started
    return Result(control_id, outcome, reason, tuple(findings), took, elsewhere=elsewhere)
