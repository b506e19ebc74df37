"""Whole evidence runs of a benchmark's target, timed: with one process and with two, in turn, best of several."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Timed", "bytecode_kept", "timed"]

_SETUP = re.compile(r"([\d.]+)s setup ")


@contextlib.contextmanager
def bytecode_kept() -> Iterator[None]:
    """Python processes started meanwhile find their bytecode from the second on, as they do by default and where the
    product is installed: what PYTHONDONTWRITEBYTECODE would measure is the compiler."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@dataclass(frozen=True)
class Timed:
    """Seconds: of the whole command, and of the longest set-up within it. That is the attack where probes alone are
    run, the waiting for other workers included."""

    whole: float
    attack: float


def timed(folder: Path, arguments: tuple[str, ...], rounds: int, extra: Mapping[str, str]) -> dict[str, Timed]:
    """The quickest runs for `-n 0` and `-n 2`. Raises SystemExit when a run is not proven."""
    done: dict[str, list[Timed]] = {"0": [], "2": []}
    with bytecode_kept():
        for _ in range(rounds):
            for workers, found in done.items():
                found.append(_run(folder, (*arguments, "-n", workers), extra))
    return {n: Timed(min(t.whole for t in found), min(t.attack for t in found)) for n, found in done.items()}


def _run(folder: Path, arguments: tuple[str, ...], extra: Mapping[str, str]) -> Timed:
    with tempfile.TemporaryDirectory() as evidence:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--evidence-dir={evidence}"]
        command += ["--durations=20", "--durations-min=0.01", *arguments]
        began = time.monotonic()
        done = subprocess.run(command, cwd=folder, env=os.environ | extra, capture_output=True, text=True, check=False)
        took = time.monotonic() - began
    if done.returncode != 0 or "verdict: PROVEN" not in done.stdout:
        raise SystemExit(f"the run was not proven:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return Timed(took, max(map(float, _SETUP.findall(done.stdout)), default=0.0))
