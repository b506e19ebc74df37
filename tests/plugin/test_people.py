"""What people see of a run: progress on a terminal, the checklist by `status`, colour where it is wanted."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.plugin.conftest import CONFIG, Run, Tool

SLOW = '''
import time
from pytest_tenantproof import Severity, control, falsified_by

@control("ACME101", title="Slow", severity=Severity.LOW, requirement="A1", maps=None)
@falsified_by("SELECT 1")
def check_slow(catalog, findings):
    """Because it takes long."""
    time.sleep(4)
'''


def _with_slow_control(folder: Path) -> None:
    (folder / "tenantproof.toml").write_text(
        CONFIG.replace("[tenantproof]", '[tenantproof]\ncontrols = ["slow.py"]', 1)
    )
    (folder / "slow.py").write_text(SLOW)


def test_a_long_run_says_where_it_is_on_a_terminal(tmp_path: Path, user_environment: dict[str, str]) -> None:
    _with_slow_control(tmp_path)
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--evidence=staging", "-m", "invariant"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=user_environment, stdout=subprocess.PIPE, stderr=follower, text=True
    ) as process:
        os.close(follower)
        out = process.communicate()[0]
    said = os.read(leader, 65536).decode()
    os.close(leader)
    assert process.returncode == 0, out
    assert " controls; ACME101 Slow: 3 s" in said
    assert " controls; " not in out


def test_without_a_terminal_there_is_no_progress_line(run: Run, tmp_path: Path) -> None:
    _with_slow_control(tmp_path)
    done = run("--evidence=staging", "-m", "invariant")
    assert done.returncode == 0
    assert " controls; " not in done.stdout + done.stderr


def test_status_is_the_checklist(tool: Tool, tmp_path: Path) -> None:
    done = tool("status", "--target", "staging")
    assert done.returncode in (0, 2), done.stdout + done.stderr
    assert "1xx schema invariants" in done.stdout
    assert "     ok  TP101  Every table in scope" in done.stdout
    assert "verdict: " in done.stdout
    assert "\x1b" not in done.stdout
    assert list((tmp_path / "evidence" / "staging").glob("*/report.html"))


def test_colour_on_request(run: Run) -> None:
    done = run("--evidence=staging", "-m", "invariant", "--color=yes")
    assert "\x1b[32m     ok\x1b[0m  TP101" in done.stdout
