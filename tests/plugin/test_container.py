"""The container target, where Docker answers; that it says so where none does is in test_runs.py."""

import shutil
import subprocess

import pytest

from tests.plugin.conftest import Run


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _docker_answers(), reason="Docker does not answer here")
def test_a_container_is_proven_and_gone_afterwards(run: Run) -> None:
    done = run("--evidence=container")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "verdict: PROVEN (all" in done.stdout
    left = subprocess.run(["docker", "ps", "-q"], capture_output=True, text=True, check=True)
    assert left.stdout.split() == []
