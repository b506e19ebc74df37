"""A bundle as a run writes it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof import Severity
from pytest_tenantproof.attest import bundle, runlog
from pytest_tenantproof.attest.record import Run, record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.verdict import recomputed
from pytest_tenantproof.model import Control, Finding, Outcome, Result, Scope, Verdict
from pytest_tenantproof.report import render_html, render_junit
from tests.attest.support import NOW, Change, WriteProven
from tests.support import PROD

WriteBundle = Callable[..., Path]


def make_run(previous: dict[str, str] | None, run_id: str, *, ephemeral: bool = False) -> Run:
    red = Control("TP999", "A title", Severity.HIGH, "A1", {"SOC2": ("CC6.1",)}, "evidence", "Why.")
    green = Control("TP901", "Another", Severity.LOW, "A1", None, "evidence", "Why.")
    finding = Finding('public."<script>alert(1)</script>"', "is wrong", "ALTER TABLE x;")
    return Run(
        run_id=run_id,
        started="2026-11-23T02:00:00Z",
        finished="2026-11-23T02:00:05Z",
        verdict=Verdict.FAILED,
        target=PROD | {"class": "scratch" if ephemeral else "live"},
        tool={"version": "0.1.0", "controls_sha256": "0" * 64, "git_commit": ""},
        scope=Scope(2, 2),
        results=((green, Result("TP901", Outcome.PASSED)), (red, Result("TP999", Outcome.FAILED, findings=(finding,)))),
        previous=previous,
        digests={"catalog": "1" * 64},
        ephemeral_key=ephemeral,
    )


@pytest.fixture
def signer() -> Signer:
    return Signer(new_seed())


@pytest.fixture
def write(tmp_path: Path, signer: Signer) -> WriteBundle:
    """Writes one more bundle below tmp_path/evidence."""

    def report(run_id: str, previous: dict[str, str] | None, by: Signer, *, now: bool) -> dict[str, Any]:
        run = make_run(previous, run_id, ephemeral=by.ephemeral)
        when = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return record(replace(run, started=when, finished=when) if now else run)

    def again(by: Signer = signer, stamp: Callable[[bytes], bytes | None] | None = None) -> Path:
        return bundle.write_bundle(
            tmp_path / "evidence",
            "prod",
            by,
            lambda run_id, previous: report(run_id, previous, by, now=stamp is not None),
            {"report.html": render_html, "junit.xml": render_junit},
            stamp=stamp,
        )

    return again


@pytest.fixture
def proven(tmp_path: Path, signer: Signer) -> WriteProven:
    """Writes a proven bundle of prod, changed before it is signed."""

    def write(
        change: Change = lambda report: None,
        by: Signer = signer,
        stamp: Callable[[bytes], bytes | None] | None = None,
    ) -> Path:
        def report(run_id: str, previous: dict[str, str] | None) -> dict[str, Any]:
            made = record(make_run(previous, run_id))
            made["controls"] = [c for c in made["controls"] if c["outcome"] == "passed"]
            made["scope"].update(selected=1, of=1)
            made["finished"] = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
            change(made)
            return made | {"verdict": str(recomputed(made))}

        pages = {"report.html": render_html}
        path = bundle.write_bundle(tmp_path / "evidence", "prod", by, report, pages, stamp=stamp)
        runlog.append(tmp_path / "evidence", signer)
        return path

    return write
