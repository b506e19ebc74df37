"""Real bundles: the checked-in ones, and ones built here and now where Node exists."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_tenantproof.cli import main
from pytest_tenantproof.scan import scan
from tests.scan.support import jwt, known
from tests.support import REPOSITORY, lacks

BUNDLES = REPOSITORY / "tests" / "fixtures" / "bundles"
APP = REPOSITORY / "tests" / "fixtures" / "vite-app"


def test_an_anonymous_key_and_library_sources_are_fine() -> None:
    maps = b"".join(file.read_bytes() for file in BUNDLES.rglob("clean/**/*.map"))
    assert b"service_role" in maps
    assert b"SUPABASE_SERVICE_ROLE_KEY" in maps
    found = scan([BUNDLES / "clean"], known())
    assert found.leaks == ()
    assert found.files == 6


def test_a_service_key_in_a_lazy_chunk_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", "--json", str(BUNDLES / "leaky")]) == 1
    answer = json.loads(capsys.readouterr().out)
    (leak,) = answer["leaks"]
    assert Path(leak["path"]).name.startswith("admin-")
    assert leak["kind"] == "service-role-jwt"
    content = Path(leak["path"]).read_bytes()[leak["offset"] :]
    assert content.startswith(b"eyJ")
    assert content.split(b".")[1].decode() not in json.dumps(answer)


def test_the_verb_tells_clean_leaky_and_unknown_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(BUNDLES / "clean")]) == 0
    assert "0 finding(s) in 6 file(s)" in capsys.readouterr().out
    assert main(["scan", str(tmp_path)]) == 2
    assert main(["scan", str(tmp_path / "missing")]) == 2
    assert "build the front end first" in capsys.readouterr().err


def test_bundles_built_here(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        lacks("node", "Node is not installed; the built bundles are tested")
    app = tmp_path / "app"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline"]
    done = subprocess.run(install, cwd=app, capture_output=True, text=True, check=False)
    if done.returncode:
        lacks("node", "npm cannot reach a registry; the built bundles are tested")
    environment = os.environ | {
        "VITE_SUPABASE_URL": "https://abcdefghijklmnopqrst.supabase.co",
        "VITE_SUPABASE_ANON_KEY": jwt(role="anon"),
    }
    for key, leaks in ((jwt(role="anon"), 0), (jwt(role="service_role"), 1)):
        subprocess.run(
            ["npm", "run", "build"],
            cwd=app,
            env=environment | {"VITE_ADMIN_KEY": key, "OUT_DIR": str(tmp_path / "dist")},
            check=True,
            capture_output=True,
        )
        assert len(scan([tmp_path / "dist"], known()).leaks) == leaks
