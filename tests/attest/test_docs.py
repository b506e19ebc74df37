"""The recipes of docs/VERIFYING.md, run as they stand there."""

import re
import subprocess
from pathlib import Path

from pytest_tenantproof.attest import keys
from pytest_tenantproof.attest.sign import Signer
from tests.attest.conftest import WriteBundle
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
