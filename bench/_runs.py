"""Whole evidence runs of a benchmark's target, timed: with one process and with two, in turn, best of several."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["timed"]


def timed(folder: Path, arguments: tuple[str, ...], rounds: int, extra: Mapping[str, str]) -> dict[str, float]:
    """Seconds of the quickest run for `-n 0` and `-n 2`. Raises SystemExit when a run is not proven."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for workers in ("0", "2"):
            took = _run(folder, (*arguments, "-n", workers), extra)
            best[workers] = min(took, best.get(workers, took))
    return best


def _run(folder: Path, arguments: tuple[str, ...], extra: Mapping[str, str]) -> float:
    with tempfile.TemporaryDirectory() as evidence:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--evidence-dir={evidence}"]
        began = time.monotonic()
        done = subprocess.run(
            [*command, *arguments], cwd=folder, env=os.environ | extra, capture_output=True, text=True, check=False
        )
        took = time.monotonic() - began
    if done.returncode != 0 or "verdict: PROVEN" not in done.stdout:
        raise SystemExit(f"the run was not proven:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return took
