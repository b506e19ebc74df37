"""cron lines and systemd units of docs/SCHEDULES.md do what they say, in a folder like theirs."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_tenantproof.attest.bundle import bundles
from tests.docs.conftest import Operator
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "SCHEDULES.md").read_text()
PLACE = "/srv/tenantproof"
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def cron_jobs() -> list[tuple[str, str]]:
    """Times and command of each line of the crontabs."""
    lines = [line for block in re.findall(r"```cron\n(.+?)```", PAGE, re.S) for line in block.splitlines()]
    jobs = [re.fullmatch(r"((?:\S+ ){5})tenantproof (cd .+)", line) for line in lines]
    assert [line for line, job in zip(lines, jobs, strict=True) if not job and not re.match(r"[A-Z]+=", line)] == []
    return [(job[1].strip(), job[2]) for job in jobs if job]


def units() -> dict[str, str]:
    """systemd units by name."""
    return dict(re.findall(r"`/etc/systemd/system/([\w.-]+)`:\n\n```ini\n(.+?)```", PAGE, re.S))


@pytest.fixture
def machine(operator: Operator) -> Operator:
    """The folder as the page describes it: `env`, and programs in .venv/bin."""
    (operator.folder / ".venv" / "bin").mkdir(parents=True)
    for name, module in (("pytest", "pytest -p no:cacheprovider"), ("tenantproof", "pytest_tenantproof.cli")):
        program = operator.folder / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    given = {k: v for k, v in operator.environment.items() if k.startswith("TENANTPROOF_")}
    (operator.folder / "env").write_text("".join(f"{k}={shlex.quote(v)}\n" for k, v in given.items()))
    return operator


def call(machine: Operator, command: str) -> subprocess.CompletedProcess[str]:
    """As cron does it: sh, and next to no environment."""
    line = command.replace(PLACE, str(machine.folder))
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "HOME": str(machine.folder)}
    return subprocess.run(
        ["/bin/sh", "-c", line], env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=180
    )


def test_cron_lines_do_their_jobs(machine: Operator) -> None:
    said = {
        "backup": "verified",
        "seal": "transactions",
        "canary": "verdict:",
        "drill": "verdict: PROVEN (scope: drill",
        "--evidence=prod": "verdict:",
    }
    done = []
    assert machine("tenantproof migrate --target staging").returncode == 0
    for _, command in cron_jobs():
        result = call(machine, command)
        [job] = [
            name for name in said if re.search(rf"[ =]?{name}( --target (prod|staging)| --notify=failure)?$", command)
        ]
        assert said[job] in result.stdout, (command, result.stdout[-2000:], result.stderr)
        assert result.returncode in ((0,) if job in ("backup", "seal", "drill") else (0, 1, 2)), command
        done.append(job)
    assert sorted(done) == sorted(said)
    assert len(bundles(machine.folder / "evidence" / "prod")) == 2


def test_times_of_cron_are_times() -> None:
    for times, command in cron_jobs():
        for field, (low, high) in zip(times.split(), FIELDS, strict=True):
            assert re.fullmatch(r"\*(/\d+)?|\d+", field), (field, command)
            assert field.startswith("*") or low <= int(field) <= high, (field, command)


def test_units_are_units_and_their_service_writes_evidence(machine: Operator, tmp_path: Path) -> None:
    assert sorted(units()) == ["tenantproof-canary.service", "tenantproof-canary.timer"]
    folder = tmp_path / "units"
    folder.mkdir()
    for name, text in units().items():
        (folder / name).write_text(text.replace(PLACE, str(machine.folder)).replace("User=tenantproof", "User=root"))
    read = configparser.ConfigParser(strict=True, interpolation=None)
    read.optionxform = str  # type: ignore[assignment, method-assign]
    read.read(folder / "tenantproof-canary.service")
    service = read["Service"]
    assert (service["WorkingDirectory"], service["Type"]) == (str(machine.folder), "oneshot")
    result = call(
        machine,
        f"cd {service['WorkingDirectory']} && set -a && . {service['EnvironmentFile']} && {service['ExecStart']}",
    )
    assert "verdict:" in result.stdout, result.stderr
    assert len(bundles(machine.folder / "evidence" / "prod")) == 1
    if shutil.which("systemd-analyze"):  # a machine without systemd has no units either
        verified = subprocess.run(
            ["systemd-analyze", "verify", *map(str, sorted(folder.iterdir()))],
            capture_output=True,
            text=True,
            check=False,
        )
        ours = [line for line in verified.stderr.splitlines() if "tenantproof" in line]
        assert ours == []
        for moment in ("*:0/15", "*-*-* 02:00:00 UTC"):
            assert moment in PAGE
            subprocess.run(["systemd-analyze", "calendar", moment], capture_output=True, check=True)
