"""The dashboard of a thousand bundles: `python -m bench.site [bundles]`.

Bundles of three targets, each as large as an evidence run's, with findings that come and go, are written with one key
and logged. Measured are the first build, the next one with nothing new, one with one more run, and how many bundles
`verify --chain` checks in a second. Budgets: 10 s for the first build of 1,000, a third of it for the others (every
byte is hashed again).
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest import bundle, runlog
from pytest_tenantproof.attest.record import Run, record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.verify_log import verify_log
from pytest_tenantproof.controls import catalogue
from pytest_tenantproof.model import Control, Finding, Outcome, Result, Scope, verdict_of
from pytest_tenantproof.report import RENDERERS
from pytest_tenantproof.report.site import Trust, build
from tests.support import PROD

_TARGETS = ("prod-eu", "prod-us", "staging")
_BEGAN = datetime(2025, 1, 1, 2, tzinfo=UTC)
_DRILL: dict[str, Any] = {
    "drill": "20250101T020000Z-00000001",
    "source": "prod-eu",
    "run": "20250101T010000Z-00000001",
    "manifest_sha256": "2" * 64,
    "restored_to": "a private server",
    "stage": "",
    "error": "",
    "tables": 40,
    "tenants": 1000,
    "rows": 2_000_000,
    "skipped_tenants": 0,
    "seconds": {"restore": 30.0},
    "controls_judged": 70,
    "recorded": True,
}


def _run(number: int, dice: random.Random, run_id: str, previous: dict[str, str] | None, target: str) -> Run:
    """A run of every control: most pass, a tenth of the runs have something red."""
    when = _BEGAN + timedelta(hours=8 * (number // len(_TARGETS)))
    red = dice.sample(range(len(catalogue())), dice.randrange(1, 4)) if dice.random() < 0.1 else []
    results = tuple((c, _result(c, dice, red=at in red)) for at, c in enumerate(catalogue()))
    scope = Scope(len(results), len(results))
    drilled = dice.random() < 0.2
    rpo, rto, size = dice.uniform(600, 90_000), dice.uniform(20, 90), 900_000_000 + number * 100_000
    drill = _DRILL | {"rpo_seconds": rpo, "rto_seconds": rto, "stored_bytes": size} if drilled else None
    return Run(
        run_id=f"{when:%Y%m%dT%H%M%SZ}-{run_id[-8:]}",
        started=f"{when:%Y-%m-%dT%H:%M:%SZ}",
        finished=f"{when + timedelta(seconds=30):%Y-%m-%dT%H:%M:%SZ}",
        verdict=verdict_of(tuple(result for _, result in results), scope)[0],
        target=PROD | {"name": target},
        tool={"version": "0.1.0", "controls_sha256": "0" * 64, "git_commit": ""},
        scope=scope,
        results=results,
        previous=previous,
        digests={"catalog": "1" * 64, **({"backup": "2" * 64} if drilled else {})},
        drill=drill,
    )


def _result(control: Control, dice: random.Random, *, red: bool) -> Result:
    took = round(dice.uniform(0.001, 0.2), 4)
    if not red:
        return Result(control.id, Outcome.PASSED, duration_s=took)
    found = tuple(Finding(f"public.t{dice.randrange(400)}", "is wrong", "ALTER TABLE x;") for _ in range(5))
    return Result(control.id, Outcome.FAILED, findings=found, duration_s=took)


def _write(root: Path, numbers: range, signer: Signer, pages: dict[str, bytes], dice: random.Random) -> None:
    for number in numbers:
        target = _TARGETS[number % len(_TARGETS)]

        def report(run_id: str, previous: dict[str, str] | None, at: int = number, to: str = target) -> dict[str, Any]:
            return record(_run(at, dice, run_id, previous, to))

        bundle.write_bundle(root, target, signer, report, {}, pages)
    runlog.append(root, signer)


def _timed(what: str, work: Callable[[], object]) -> float:
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    found = work()
    wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
    print(f"{what}: {wall:.2f} s, {cpu:.2f} s of CPU: {found}", flush=True)
    return wall


def main(count: int) -> int:
    """Exit 1 where a budget is exceeded."""
    signer, dice = Signer(new_seed()), random.Random(7)
    trust = Trust((signer.public,))
    with tempfile.TemporaryDirectory(prefix="bench-site-") as folder:
        root, out = Path(folder) / "evidence", Path(folder) / "site"
        first = record(replace(_run(0, dice, "0" * 8, None, "prod-eu"), run_id="20250101T020000Z-00000000"))
        pages = {name: render(first) for name, render in RENDERERS.items()}
        _timed("writing the bundles", lambda: _write(root, range(count), signer, pages, dice))

        def made(*, fresh: bool = False) -> str:
            built = build(root, out, trust, datetime.now(UTC), fresh=fresh)
            return f"{built.states}, {built.examined} examined, {built.pages} pages, {len(built.problems)} problems"

        whole = _timed("first build", made)
        same = _timed("nothing new", made)
        _write(root, range(count, count + 1), signer, pages, dice)
        more = _timed("one more run", made)
        checked = _timed("verify --chain", lambda: len(verify_log(root, [signer.public])[1]))
    budget = count / 100
    print(
        f"first {whole:.1f} of {budget:.0f} s; others {same:.1f}, {more:.1f} s; {count / checked:.0f} bundles a second"
    )
    return int(whole > budget or max(same, more) > budget / 3)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
