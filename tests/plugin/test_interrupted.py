"""A run that is interrupted, killed or out of space leaves a whole bundle that says so, or none."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_tenantproof.attest import bundle, keys, runlog
from pytest_tenantproof.attest.verify import verify_bundle
from pytest_tenantproof.attest.verify_log import verify_log
from tests.plugin.conftest import CONFIG
from tests.plugin.test_runs import newest, outcomes
from tests.support import lacks

OWN = """
import pathlib, time
from pytest_tenantproof import Severity, control, falsified_by

@control("ACME101", title="Ours", severity=Severity.LOW, requirement="A1", maps=None)
@falsified_by("SELECT 1")
def check_ours(catalog, findings):
    '''It takes long.'''
    if pathlib.Path("slow").exists():
        pathlib.Path("inside").touch()
        time.sleep(120)
"""
WORKERS = ("-n", "2")  # whatever happens to a run alone happens to its controller too
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, user_environment: dict[str, str]) -> Iterator[Start]:
    """Starts `pytest --evidence=staging -m invariant`, as a terminal would: in a process group of its own."""
    (tmp_path / "tenantproof.toml").write_text(CONFIG.replace("[tenantproof]", '[tenantproof]\ncontrols = ["own.py"]'))
    (tmp_path / "own.py").write_text(OWN)
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, before: tuple[str, ...] = (), **more: str) -> "subprocess.Popen[str]":
        command = [*before, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--evidence=staging"]
        process = subprocess.Popen(
            [*command, "-m", "invariant", *arguments],
            cwd=tmp_path,
            env=user_environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _until(condition: Callable[[], object], process: "subprocess.Popen[str]", every_s: float) -> None:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(every_s)


def _key(folder: Path) -> bytes:
    return keys.read_public(folder / "keys" / "tenantproof.pub")


@pytest.mark.parametrize("workers", [(), WORKERS], ids=["alone", "workers"])
def test_ctrl_c_in_a_control_leaves_a_bundle_saying_so(start: Start, tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "slow").touch()
    process = start(*workers)
    _until((tmp_path / "inside").exists, process, 0.02)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2, said[-3000:]
    path, report = newest(tmp_path, "staging")
    assert verify_bundle(path, [_key(tmp_path)]).verdict == "not_proven"
    assert outcomes(report)["ACME101"] == "not_run"
    assert "NOT PROVEN" in said
    assert verify_log(tmp_path / "evidence", [_key(tmp_path)])[0].size == 1


def test_a_killed_run_leaves_nothing_and_the_next_one_works(start: Start, tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    process = start(*WORKERS)
    _until((tmp_path / "inside").exists, process, 0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert bundle.bundles(tmp_path / "evidence" / "staging") == ()
    (tmp_path / "slow").unlink()
    again = start(*WORKERS)
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said[-3000:]
    assert verify_log(tmp_path / "evidence", [_key(tmp_path)])[0].size == 1


# ctrl-C at the nth time that something is made sure to be on disk: each file of the bundle, its folder, then the log.
INTERRUPTED = """
import os, signal
real, left = os.fsync, int(os.environ["INTERRUPTED_AT"])
def fsync(descriptor):
    global left
    left -= 1
    if left == 0:
        signal.raise_signal(signal.SIGINT)
    real(descriptor)
os.fsync = fsync
"""


@pytest.mark.parametrize("workers", [(), WORKERS], ids=["alone", "workers"])
def test_ctrl_c_while_the_bundle_is_written(start: Start, tmp_path: Path, workers: tuple[str, ...]) -> None:
    """In the first file, in the last one, when all is renamed, and twice while the log is begun."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    folder, files = tmp_path / "evidence" / "staging", 8
    expected = {files: 0} if workers else {1: 0, files + 2: 1, files + 3: 2}
    for at, bundles in expected.items():
        process = start(*workers, "-p", "interrupted", INTERRUPTED_AT=str(at))
        said, _ = process.communicate(timeout=120)
        assert process.returncode != 0, said[-3000:]
        found = bundle.bundles(folder)
        assert len(found) == bundles, (at, said[-3000:])
        for path in found:
            assert len([file for file in path.iterdir() if file.name != bundle.ALERTS_FILE]) == files
            verify_bundle(path, [_key(tmp_path)])
    # What was written and not yet logged is logged by the next run, and what was left half is gone.
    again = start(*workers)
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said[-3000:]
    assert verify_log(tmp_path / "evidence", [_key(tmp_path)])[0].size == max(expected.values()) + 1
    assert list(folder.glob(".part*")) == []


def test_a_full_disk_is_loud_and_leaves_no_bundle(start: Start, tmp_path: Path) -> None:
    mount = ("unshare", "--user", "--map-root-user", "--mount")
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], check=False).returncode:
        lacks("mounts", "this machine lets nobody mount a file system of their own")
    (tmp_path / "evidence").mkdir()
    script = 'mount -t tmpfs -o size=100k none evidence; "$@"; status=$?; find evidence -type f; exit $status'
    process = start(*WORKERS, before=(*mount, "sh", "-c", script, "sh"))
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 3, said[-3000:]
    assert "no evidence was written" in said
    assert "No space left on device" in said
    assert [line for line in said.splitlines() if line.startswith("evidence/")] == ["evidence/staging/.lock"]
    assert runlog.targets(tmp_path / "evidence") == ()
