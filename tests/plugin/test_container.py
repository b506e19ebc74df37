"""The container target, where Docker answers; that it says so where none does is in test_runs.py."""

import shutil
import subprocess

from tests.plugin.conftest import Run
from tests.support import lacks


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


def test_a_container_is_proven_and_gone_afterwards(run: Run) -> None:
    if not _docker_answers():
        lacks("docker", "Docker does not answer here")
    done = run("--evidence=container")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "verdict: PROVEN (all" in done.stdout
    left = subprocess.run(["docker", "ps", "-q"], capture_output=True, text=True, check=True)
    assert left.stdout.split() == []
