"""The drill inside an evidence run: once, whoever asks, and its backup is a subject of what is signed."""

import base64
import json
import subprocess
import sys
from pathlib import Path

from pytest_tenantproof.attest.bundle import bundles
from pytest_tenantproof.attest.verify import verify_bundle
from tests.support import REPOSITORY


def test_a_drill_by_two_workers_is_one_drill(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--evidence=embedded",
        "-m",
        "drill or backup",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
    ]
    command += [f"--evidence-config={REPOSITORY / 'tenantproof.toml'}", f"--evidence-dir={tmp_path / 'evidence'}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = bundles(tmp_path / "evidence" / "embedded")
    report = verify_bundle(path, [], allow_ephemeral=True).report
    drill = report["drill"]
    assert (drill["stage"], drill["recorded"], drill["tenants"]) == ("", True, 4)
    assert drill["controls_judged"] > 40
    assert report["backup"]["verified"] == 1
    assert report["backup"]["stored_bytes"] == drill["stored_bytes"] > 10_000
    envelope = json.loads((path / "statement.intoto.jsonl").read_bytes())
    subjects = json.loads(base64.b64decode(envelope["payload"]))["subject"]
    named = {subject["name"]: subject["digest"]["sha256"] for subject in subjects}
    assert named["tenantproof:backup"] == drill["manifest_sha256"]
    assert {c["outcome"] for c in report["controls"]} <= {"passed", "not_applicable"}
