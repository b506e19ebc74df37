"""--prove: after each control, its faults on a clone of the target's schema. One clone a process, made when needed."""

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import pytest

from pytest_tenantproof.errors import TenantproofError
from pytest_tenantproof.model import Falsified, Outcome, Result
from pytest_tenantproof.prove.run import Prover, open_prover

if TYPE_CHECKING:
    from pytest_tenantproof.plugin.collect import ControlItem
    from pytest_tenantproof.plugin.session import EvidencePlugin

__all__ = ["Proofs"]


class Proofs:
    """The clone of this process. `notes` say what of the target it could not be given."""

    def __init__(self, run: "EvidencePlugin") -> None:
        self._run = run
        self._stack = contextlib.ExitStack()
        self._prover: Prover | None = None
        self._failure = ""
        self.notes: set[str] = set()

    def prove(self, item: "ControlItem", result: Result, report: pytest.TestReport) -> Result:
        """The result with what became of the control's faults. One that misses a fault is an error, and so is
        one for which no clone could be had: the proof was asked for."""
        prover = self._open()
        if prover is None:
            proven = dataclasses.replace(result, outcome=Outcome.ERROR, reason=f"not proven: {self._failure}")
        else:
            falsified = prover.falsify(item.control, item.function)
            proven = dataclasses.replace(result, falsified=falsified)
            if falsified.detected < falsified.faults:
                proven = dataclasses.replace(proven, outcome=Outcome.ERROR, reason=_missed(falsified))
        if proven.outcome is Outcome.ERROR and result.outcome is not Outcome.ERROR:
            report.outcome = "failed"
            report.longrepr = f"{item.control.id} {item.control.title}\n{proven.reason}"
        return proven

    def _open(self) -> Prover | None:
        if self._prover is None and not self._failure:
            info, catalog = self._run.prepared()
            try:
                self._prover = self._stack.enter_context(open_prover(catalog.snapshot, self._run.settings, info))
                self.notes |= set(self._prover.notes)
            except TenantproofError as error:
                self._failure = str(error)
        return self._prover

    def close(self) -> None:
        self._stack.close()


def _missed(falsified: Falsified) -> str:
    missed = falsified.faults - falsified.detected
    return f"the control cannot be relied on: it missed {missed} of {falsified.faults} faults injected into a clone"
