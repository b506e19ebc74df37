"""kill -9 at any moment: staging is what it was, or the whole restored copy; the next restore cleans up."""

import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest

from tests.restore.support import Stage, content

SCRIPT = """
import sys
from pathlib import Path
from pytest_tenantproof.backup.crypto import parse_private
from pytest_tenantproof.backup.restore import RestoreRequest, run_restore
from pytest_tenantproof.backup.store import StoreSpec, open_store
from pytest_tenantproof.config import Settings, TargetSettings
dsn, store, keys, run, key_id, public, private = sys.argv[1:]
settings = Settings(targets={"staging": TargetSettings(class_="staging", restorable=True)})
print("ready", flush=True)
run_restore(RestoreRequest(run=run, target="staging", dsn=dsn, settings=settings, store=open_store(StoreSpec(store)),
    key_store=open_store(StoreSpec(keys)), trusted={key_id: bytes.fromhex(public)}, pair=parse_private(private)))
"""


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_killed(stage: Stage, part: float) -> None:
    scene = stage.scene
    given = [stage.dsn, scene.store.url, scene.key_store.url, stage.run, scene.key.key_id, scene.key.public.hex()]
    command = [sys.executable, "-c", SCRIPT, *given, scene.reader.private_text]
    begun = time.monotonic()
    stage.restore()
    whole = time.monotonic() - begun
    restored = content(stage.dsn)
    with psycopg.connect(stage.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE before_it(id int)")
    before = content(stage.dsn)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(whole * part)
        os.kill(process.pid, signal.SIGKILL)
    assert content(stage.dsn) in (before, restored)
    for _ in range(50):
        if _free(stage):
            break
        time.sleep(0.1)
    stage.restore()
    assert content(stage.dsn) == content(scene.dsn)
    assert [name for name in stage.databases() if name.startswith("staging_")] == []


def _free(stage: Stage) -> bool:
    """The killed restore's session has ended, and with it its lock."""
    with psycopg.connect(stage.server.dsn(), autocommit=True) as admin:
        row = admin.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    return row == (0,)
