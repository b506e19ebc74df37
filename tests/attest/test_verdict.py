"""A report cannot say better of itself than its results do, whoever signs it."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof import Severity
from pytest_tenantproof.attest import bundle
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.attest.verdict import inconsistency, recomputed
from pytest_tenantproof.attest.verify import verify_bundle
from pytest_tenantproof.errors import VerificationError
from pytest_tenantproof.model import Control, Finding, Outcome, Result, Scope, Waiver, verdict_of
from tests.attest.conftest import make_run

WAIVER = {
    "control": "TP999",
    "object": "public.legacy",
    "owner": "ann",
    "approver": "bob",
    "reason": "until January",
    "expires": "2027-01-31",
    "ticket": "",
}
Change = Callable[[dict[str, Any]], None]


def _waive(**change: str) -> Change:
    def waive(report: dict[str, Any]) -> None:
        report["controls"][1]["waiver"] = WAIVER | change
        report["verdict"] = "proven"

    return waive


def _critical(report: dict[str, Any]) -> None:
    _waive(object="*")(report)
    report["controls"][1]["severity"] = "critical"


def _outcome(outcome: str) -> Change:
    def change(report: dict[str, Any]) -> None:
        report["controls"][1].update(outcome=outcome, reason="x", findings=[])
        report["verdict"] = "proven"

    return change


def _nowhere(report: dict[str, Any]) -> None:
    _outcome("not_applicable")(report)
    there = {"control": "TP999", "reason": "it writes", "target": "", "run_id": "", "sha256": "", "finished": ""}
    report["proven_elsewhere"] = [there | {"age_days": None, "problem": "no bundle ran it"}]


def _nothing(report: dict[str, Any]) -> None:
    report.update(controls=[], verdict="proven", scope=report["scope"] | {"selected": 0})


def _missing(report: dict[str, Any]) -> None:
    _outcome("passed")(report)
    report["scope"]["missing"] = ["TP203"]


def _narrowed(report: dict[str, Any]) -> None:
    _outcome("passed")(report)
    report["scope"]["narrowed"] = True


def _twice(report: dict[str, Any]) -> None:
    _outcome("passed")(report)
    report["controls"][1]["id"] = report["controls"][0]["id"]


def _left_out(report: dict[str, Any]) -> None:
    report["controls"].pop()
    report["verdict"] = "proven"


def _left_and_here(report: dict[str, Any]) -> None:
    _nowhere(report)
    report["controls"][1]["outcome"] = "passed"
    report["proven_elsewhere"][0].update(problem="", sha256="0" * 64)


LIES: dict[str, tuple[Change, str]] = {
    "verdict alone": (lambda r: r.update(verdict="proven"), "verdict-mismatch"),
    "worse than it is": (lambda r: r.update(verdict="not_proven"), "verdict-mismatch"),
    "error": (_outcome("error"), "verdict-mismatch"),
    "not run": (_outcome("not_run"), "verdict-mismatch"),
    "proven nowhere": (_nowhere, "verdict-mismatch"),
    "missing": (_missing, "verdict-mismatch"),
    "narrowed": (_narrowed, "verdict-mismatch"),
    "nothing passed": (_nothing, "verdict-mismatch"),
    "waived by its owner": (_waive(approver=" ANN"), "verdict-mismatch"),
    "waiver expired": (_waive(expires="2026-11-22"), "verdict-mismatch"),
    "waiver for years": (_waive(expires="2029-01-01"), "verdict-mismatch"),
    "waiver until no day": (_waive(expires="2026-99-99"), "verdict-mismatch"),
    "another control's waiver": (_waive(control="TP901"), "verdict-mismatch"),
    "waiver for everything": (_critical, "verdict-mismatch"),
    "control twice": (_twice, "report-inconsistent"),
    "control left out": (_left_out, "report-inconsistent"),
    "left and here": (_left_and_here, "report-inconsistent"),
    "selected of fewer": (lambda r: r["scope"].update(of=1), "report-inconsistent"),
    "no time": (lambda r: r.update(started="2026-99-23T02:00:00Z"), "report-inconsistent"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_signed_report_that_says_other_than_its_results(name: str, tmp_path: Path, signer: Signer) -> None:
    change, expected = LIES[name]

    def report(run_id: str, previous: dict[str, str] | None) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(json.dumps(record(make_run(previous, run_id))))
        change(made)
        return made

    path = bundle.write_bundle(tmp_path, "prod", signer, report, {})
    with pytest.raises(VerificationError) as caught:
        verify_bundle(path, [signer.public])
    assert caught.value.reason == expected


def test_a_sound_waiver_counts(tmp_path: Path, signer: Signer) -> None:
    def report(run_id: str, previous: dict[str, str] | None) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(json.dumps(record(make_run(previous, run_id))))
        _waive()(made)
        return made

    assert verify_bundle(bundle.write_bundle(tmp_path, "prod", signer, report, {}), [signer.public]).verdict == "proven"


def test_it_is_the_verdict_of_the_run_for_every_pair_of_outcomes() -> None:
    waiver = Waiver("TP999", "public.x", "ann", "bob", "later", date(2027, 1, 1))
    kinds = [(outcome, False) for outcome in Outcome] + [(Outcome.FAILED, True)]
    for (first, _), (second, waived), narrowed in itertools.product(kinds, kinds, (False, True)):
        results = (
            Result("TP901", first, "why", (Finding("a", "b"),) if first is Outcome.FAILED else ()),
            Result("TP999", second, "why", waiver=waiver if waived else None),
        )
        declared = (Control(r.control, "t", Severity.HIGH, "A1", None, "evidence", "") for r in results)
        scope = Scope(2, 2, narrowed=narrowed)
        run = make_run(None, "20261123T020000Z-00000000")
        told = record(dataclasses.replace(run, results=tuple(zip(declared, results, strict=True)), scope=scope))
        assert inconsistency(told) == ""
        assert recomputed(told) == verdict_of(results, scope)[0], (first, second, waived, narrowed)
