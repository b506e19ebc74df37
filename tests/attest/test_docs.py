"""The recipes of docs/VERIFYING.md, run as they stand there."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_tenantproof.attest import keys, runlog
from pytest_tenantproof.attest.authority import Authority
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.cli import main
from tests.attest.conftest import WriteBundle
from tests.attest.tsa import serve
from tests.support import REPOSITORY


def _recipe(number: int) -> str:
    text = (REPOSITORY / "docs" / "VERIFYING.md").read_text()
    recipes: list[str] = re.findall(r"```sh\n(.*?)```", text, re.S)
    return recipes[number]


def _run(script: str, folder: Path, bundle: Path, key: Path) -> subprocess.CompletedProcess[str]:
    environment = {"BUNDLE": str(bundle), "KEY": str(key), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    return subprocess.run(
        ["sh", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_openssl_verifies_a_bundle(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    key = tmp_path / "key.pub"
    key.write_text(keys.public_pem(signer.public))
    bundle = write()
    good = _run(_recipe(0), tmp_path, bundle, key)
    assert "Signature Verified Successfully" in good.stdout, good.stderr
    assert (
        _run(_recipe(1), tmp_path, bundle, key).stdout.split() == "ok junit.xml ok report.html ok report.json".split()
    )
    (bundle / "report.html").write_text("another")
    assert "CHANGED report.html" in _run(_recipe(1), tmp_path, bundle, key).stdout
    statement = bundle / "statement.intoto.jsonl"
    statement.write_bytes(statement.read_bytes().replace(b'"payload":"e', b'"payload":"f'))
    assert _run(_recipe(0), tmp_path, bundle, key).returncode != 0


def test_the_log_recipes_of_the_document(
    write: WriteBundle,
    signer: Signer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tenantproof.pub").write_text(keys.public_pem(signer.public))
    private, _ = keys.new_key(tmp_path, "auditor")
    monkeypatch.setenv(keys.KEY_FILE_VARIABLE, str(private))
    path = write()
    runlog.append(tmp_path / "evidence", signer)
    section = (
        (REPOSITORY / "docs" / "VERIFYING.md")
        .read_text()
        .partition("## That nothing was removed")[2]
        .partition("\n## ")[0]
    )
    commands = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command.replace("evidence/prod/<bundle>", str(path)).replace("<bundle>", str(path)))
        if words[0] == "cp":
            shutil.copy(words[1], words[2])
            continue
        assert main(words[1:]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert said.count("none removed, replaced or reordered") == 2
    assert "is in tenantproof-log/" in said


def test_openssl_verifies_the_timestamp(write: WriteBundle, tmp_path: Path) -> None:
    with serve(tmp_path / "tsa") as tsa:
        bundle = write(stamp=lambda signature: Authority(tsa.url, tsa.root).stamp(signature).response)
    environment = {"BUNDLE": str(bundle), "ROOT": str(tsa.root), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    command = ["sh", "-euc", _recipe(2)]
    good = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "Verification: OK" in good.stdout + good.stderr, good.stderr
    (bundle / "statement.intoto.jsonl").write_bytes((write() / "statement.intoto.jsonl").read_bytes())
    bad = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert bad.returncode != 0
