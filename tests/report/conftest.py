"""Reports that hold everything a report can hold."""

from datetime import date
from typing import Any

import pytest

from pytest_tenantproof.attest.record import Run, check_schema, record
from pytest_tenantproof.model import Control, Finding, Outcome, Result, Scope, Severity, Verdict, Waiver
from tests.support import PROD

HOSTILE = "public.\"<script>alert(1)</script>=cmd|' /C calc'!A0\x1b[31m\u2028\""


@pytest.fixture
def report() -> dict[str, Any]:
    """One control of each outcome, names that attack every format, and a waiver."""
    waiver = Waiver("TP102", "public.*", "ann", "bob", "until the view is gone", date(2027, 1, 31), "T-1")
    finding = Finding(HOSTILE, "=1+1 is wrong", "ALTER TABLE x;\nSELECT 1;", None, "anon", "SELECT")
    outcomes = (
        Result("TP101", Outcome.FAILED, findings=(finding, Finding("public.b", "is wrong"))),
        Result("TP102", Outcome.FAILED, findings=(Finding("public.view", "leaks"),), waiver=waiver),
        Result("TP103", Outcome.ERROR, "it crashed"),
        Result("TP104", Outcome.NOT_RUN, "it was left out"),
        Result("TP105", Outcome.NOT_APPLICABLE, "not on a live target"),
        Result("TP106", Outcome.PASSED),
        Result("TP107", Outcome.FAILED, "an assertion did not hold"),
    )
    maps = {"SOC2": ("CC6.1",), "CIS-PG17": ("4.7",), "NIST-800-53": ("AC-3",)}
    severities = [*Severity, *Severity]
    pairs = tuple(
        (
            Control(
                r.control,
                f"Title of {r.control}",
                severities[at],
                "A1",
                maps if at != 5 else None,
                "invariant",
                "Why\n\nit matters.",
            ),
            r,
        )
        for at, r in enumerate(outcomes)
    )
    run = Run(
        run_id="20261123T020000Z-0a1b2c3d",
        started="2026-11-23T02:00:00Z",
        finished="2026-11-23T02:00:05Z",
        verdict=Verdict.NOT_PROVEN,
        target=PROD,
        tool={"version": "0.1.0", "controls_sha256": "0" * 64, "git_commit": ""},
        scope=Scope(7, 7),
        results=pairs,
        previous=None,
        digests={"catalog": "1" * 64},
    )
    made = record(run)
    assert check_schema(made) == ""
    return made
