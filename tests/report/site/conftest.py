"""Evidence folders with a past."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.attest import bundle, runlog
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.model import Finding, Outcome, Result, Verdict, Waiver
from pytest_tenantproof.report import render_junit
from tests.attest.conftest import make_run
from tests.report.conftest import HOSTILE

DRILL: dict[str, Any] = {
    "drill": "20261101T020000Z-00000001",
    "source": "prod",
    "run": "20261101T010000Z-00000001",
    "manifest_sha256": "2" * 64,
    "restored_to": "a private server",
    "stage": "",
    "error": "",
    "rpo_seconds": 3600.0,
    "rto_seconds": 42.5,
    "tables": 3,
    "tenants": 2,
    "rows": 100,
    "skipped_tenants": 0,
    "seconds": {},
    "controls_judged": 9,
    "recorded": True,
}
BACKUP = {
    "run": "20261101T010000Z-00000001",
    "manifest_sha256": "2" * 64,
    "snapshot_at": "2026-11-01T01:00:00Z",
    "verified": 3,
}


@dataclass(frozen=True)
class History:
    """Writes runs into an evidence folder. `objects` are the findings of TP999; without any it passed."""

    root: Path
    signer: Signer

    def run(
        self,
        day: str,
        *objects: str,
        target: str = "prod",
        signer: Signer | None = None,
        waived: bool = False,
        outcome: Outcome | None = None,
        drill: dict[str, Any] | None = None,
        stored_bytes: int = 0,
    ) -> Path:
        """`day` is yyyymmdd."""
        by = signer or self.signer
        told = outcome or (Outcome.FAILED if objects else Outcome.PASSED)
        waiver = Waiver("TP999", "public.*", "ann", "bob", f"until then {HOSTILE}", date(2026, 12, 1), "T-1")
        findings = tuple(Finding(name, f"is wrong since {day}") for name in objects)
        red = Result("TP999", told, "it was left out" if outcome else "", findings, waiver=waiver if waived else None)

        def report(run_id: str, previous: dict[str, str] | None) -> dict[str, Any]:
            made = make_run(previous, f"{day}T020000Z-{run_id[-8:]}", ephemeral=by.ephemeral)
            (green, passed), (failing, _) = made.results
            verdict = {Outcome.PASSED: Verdict.PROVEN, Outcome.FAILED: Verdict.FAILED}.get(told, Verdict.NOT_PROVEN)
            if waived:
                verdict = Verdict.PROVEN
            time = f"{day[:4]}-{day[4:6]}-{day[6:]}T02:00:0"
            return record(
                replace(
                    made,
                    started=f"{time}0Z",
                    finished=f"{time}5Z",
                    verdict=verdict,
                    target={**made.target, "name": target},
                    results=((green, passed), (failing, red)),
                    digests={"catalog": "1" * 64, **({"backup": drill["manifest_sha256"]} if drill else {})},
                    drill=drill,
                    backup=BACKUP | {"stored_bytes": stored_bytes} if stored_bytes else None,
                )
            )

        path = bundle.write_bundle(self.root, target, by, report, {"junit.xml": render_junit})
        runlog.append(self.root, by)
        return path


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "evidence", Signer(new_seed()))


@pytest.fixture
def past(history: History) -> Callable[[], History]:
    """Two targets: one with every kind of run, one that was only ever fine."""

    def make() -> History:
        history.run("20261101", "public.a", HOSTILE, drill=DRILL)
        history.run("20261102", "public.a", drill=DRILL | {"rto_seconds": 60.0, "rpo_seconds": None})
        history.run("20261103", outcome=Outcome.NOT_RUN, stored_bytes=1_400_000)
        history.run("20261104", "public.view", waived=True, drill=DRILL | {"stage": "restore", "error": HOSTILE})
        history.run("20261105", stored_bytes=2_100_000)
        history.run("20261105", target="staging")
        return history

    return make
