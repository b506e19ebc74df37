"""The step of pre-deploy-gate.yml that says yes or no, run as GitHub runs it on real evidence and a real policy."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_tenantproof.attest import dsse, keys, policy
from pytest_tenantproof.attest.sign import Signer, new_seed
from tests.attest.support import Change, WriteProven, document
from tests.attest.test_policy import CHANGES
from tests.support import REPOSITORY

GATE = (REPOSITORY / ".github" / "workflows" / "pre-deploy-gate.yml").read_text()


def _step() -> str:
    """The shell of the step, which is the job's last one."""
    part = GATE.partition("      - name: Yes or no\n")[2]
    assert part
    assert "- name:" not in part
    assert "continue-on-error" not in GATE
    assert not re.search(r"^ +if:", GATE, re.M), "a step that is skipped says yes"
    [line] = re.findall(r"^        run: (.+)$", part, re.M)
    return str(line)


@pytest.fixture
def writer() -> Signer:
    """Whoever may write policies."""
    return Signer(new_seed())


def ask(folder: Path, signed: bytes, writer: Signer) -> subprocess.CompletedProcess[str]:
    """The step in a checkout with that policy."""
    (folder / "policy.dsse.json").write_bytes(signed)
    (folder / "security.pub").write_text(keys.public_pem(writer.public))
    program = folder / ".venv" / "bin" / "tenantproof"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pytest_tenantproof.cli "$@"\n')
    program.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "POLICY": "policy.dsse.json", "POLICY_KEY": "security.pub"}
    return subprocess.run(
        ["bash", "-e", "-c", _step()], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_proven_evidence_is_a_yes(proven: WriteProven, signer: Signer, writer: Signer, tmp_path: Path) -> None:
    path = proven()
    done = ask(tmp_path, dsse.envelope(document(signer), writer, policy.PAYLOAD_TYPE), writer)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"yes: prod {path.name}\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "there is no evidence"),
        (CHANGES["old"][0], "older than 24.0 h"),
        (CHANGES["failed"][0], "the verdict is failed"),
        (CHANGES["not run"][0], "TP901 is not_run"),
        (CHANGES["narrowed"][0], "the scope is partial"),
    ],
    ids=["missing", "stale", "failed", "not proven", "partial"],
)
def test_everything_else_is_a_no(
    change: Change | None, said: str, proven: WriteProven, signer: Signer, writer: Signer, tmp_path: Path
) -> None:
    if change:
        proven(change)
    done = ask(tmp_path, dsse.envelope(document(signer), writer, policy.PAYLOAD_TYPE), writer)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stderr
    assert "yes" not in done.stdout


def test_an_edited_bundle_or_a_policy_by_somebody_else_is_a_no(
    proven: WriteProven, signer: Signer, writer: Signer, tmp_path: Path
) -> None:
    path, good = proven(), dsse.envelope(document(signer), writer, policy.PAYLOAD_TYPE)
    stranger = dsse.envelope(document(signer), Signer(new_seed()), policy.PAYLOAD_TYPE)
    assert ask(tmp_path, stranger, writer).returncode == 1
    assert ask(tmp_path, b"{}", writer).returncode == 1
    report = json.loads((path / "report.json").read_bytes())
    (path / "report.json").write_text(json.dumps(report | {"verdict": "proven "}))
    assert ask(tmp_path, good, writer).returncode == 1
