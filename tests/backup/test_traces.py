"""What a backup leaves in sight while it runs: on disk, and on the database server."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.attest import keys
from pytest_tenantproof.backup.crypto import new_keypair
from tests.backup.support import Scene

CONFIG = """
[tenantproof]
[tenantproof.targets.prod]
class = "live"
[tenantproof.backup]
store = "store"
workers = 2
recipients = ["{recipient}"]
"""
# Python tells each opening of a file before it happens; every process of the run reads this file when it starts.
HOOK = """
import os, sys
def told(event, given):
    if event == "open" and isinstance(given[0], (str, bytes)) and given[2] & (os.O_WRONLY | os.O_RDWR):
        log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if given[0] != {log!r} else None
        if log is not None:
            os.write(log, os.path.abspath(os.fsdecode(given[0])).encode() + b"\\n")
            os.close(log)
sys.addaudithook(told)
open(os.path.join({folder!r}, f"seen-{{os.getpid()}}"), "w").close()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("hook", "work", "temporary"):
        (tmp_path / name).mkdir()
    hook = HOOK.format(log=str(tmp_path / "opened"), folder=str(tmp_path / "hook"))
    (tmp_path / "hook" / "sitecustomize.py").write_text(hook)
    (tmp_path / "work" / "tenantproof.toml").write_text(CONFIG.format(recipient=new_keypair().recipient.text))
    return tmp_path


def test_no_file_but_the_stores_own_is_written_and_those_hold_no_row(place: Path, seeded: str) -> None:
    private, _ = keys.new_key(place / "keys")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TENANTPROOF_", "COV"))}
    environment |= {
        "PYTHONPATH": str(place / "hook"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(place / "temporary"),
        "TENANTPROOF_PROD_DSN": seeded,
        keys.KEY_FILE_VARIABLE: str(private),
    }
    command = [sys.executable, "-m", "pytest_tenantproof.cli", "backup", "--target", "prod"]
    done = subprocess.run(command, cwd=place / "work", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((place / "hook").glob("seen-*"))) >= 3, "the command and its two workers"
    store = place / "work" / "store"
    opened = {Path(line) for line in (place / "opened").read_text().splitlines()}
    written = {path for path in opened if not path.is_relative_to("/dev") and path.parent != place / "hook"}
    assert written
    assert {path for path in written if not path.is_relative_to(store)} == set()
    assert not list((place / "temporary").iterdir())
    texts = [file.read_bytes() for file in store.rglob("*") if file.is_file()]
    assert len(texts) > 5
    for row in (b"body 1", b"unit 1", b"Tenant", b"nobody's", b"file3", b"clean"):
        assert not [text for text in texts if row in text], row


def test_a_running_backup_shows_its_name_and_has_bounds(scene: Scene) -> None:
    seen: list[tuple[object, ...]] = []

    def look(part: int, whole: int) -> None:
        with psycopg.connect(scene.dsn, autocommit=True) as other:
            query = "SELECT application_name, state FROM pg_stat_activity WHERE application_name LIKE 'tenantproof-%'"
            seen.extend(other.execute(query))

    scene.backup = replace(scene.backup, workers=2)
    run = scene.run(progress=look).run
    assert {name for name, _ in seen} == {f"tenantproof-backup-{run}"}
    with psycopg.connect(scene.dsn) as connection:
        left = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tenantproof-%'")
        assert left.fetchone() == (0,)
