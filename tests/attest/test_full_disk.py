"""A real file system that fills up at any page of a run's writing: a whole bundle or none, and the log goes on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY, lacks

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")
_SCRIPT = """
import json, subprocess, sys
from pathlib import Path
from pytest_tenantproof.attest import bundle, runlog
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.attest.verify_log import verify_log
from pytest_tenantproof.errors import EvidenceError
from pytest_tenantproof.report import render_html, render_junit
from tests.attest.conftest import make_run

signer, root, told = Signer(bytes(32)), Path(sys.argv[1]), []

def once():
    report = lambda run_id, previous: record(make_run(previous, run_id))
    bundle.write_bundle(root, "prod", signer, report, {"report.html": render_html, "junit.xml": render_junit})
    runlog.append(root, signer)

for pages in range(12):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(root)], check=True)
    once()
    used = int(subprocess.run(["du", "-sk", str(root)], capture_output=True, text=True, check=True).stdout.split()[0])
    subprocess.run(["mount", "-o", f"remount,size={used + 4 * pages}k", str(root)], check=True)
    try:
        once()
        outcome = "whole"
    except EvidenceError:
        outcome = "refused"
    parts = [p.name for p in (root / "prod").iterdir() if p.name.startswith(".part")]
    there = len(bundle.bundles(root / "prod"))
    subprocess.run(["mount", "-o", "remount,size=1m", str(root)], check=True)
    once()
    size = verify_log(root, [signer.public])[0].size
    told.append([outcome, there, parts, size])
    subprocess.run(["umount", str(root)], check=True)
print(json.dumps(told))
"""


def test_a_disk_that_fills_up_leaves_a_whole_bundle_or_none(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run([*_UNSHARE, "true"], check=False).returncode:
        lacks("mounts", "this machine lets nobody mount a file system of their own")
    command = [*_UNSHARE, sys.executable, "-c", _SCRIPT, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    outcomes = [outcome for outcome, *_ in told]
    # It filled up at every page of the bundle, and from some size on there was room.
    assert outcomes == sorted(outcomes)
    assert outcomes.count("refused") >= 5
    assert outcomes.count("whole") >= 1
    for outcome, there, parts, size in told:
        assert parts == []
        # A bundle that is whole although its run was refused lacked room for the log alone: the next run logs it.
        assert there == 2 if outcome == "whole" else there in (1, 2)
        assert size == there + 1
