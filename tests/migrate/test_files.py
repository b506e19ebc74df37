"""What migration files may be called and hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_tenantproof.errors import MigrationError
from pytest_tenantproof.migrate import migrations_folder, read_folder
from tests.support import REPOSITORY


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "holds no migration"),
        (("hardening.sql",), "is no migration's name"),
        (("1_a.sql", "001_b.sql"), "occurs twice"),
    ],
)
def test_a_bad_folder_is_refused(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match=said):
        read_folder(tmp_path)


def test_migrations_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10_c.sql", "9_b.sql", "0001_a.sql"):
        (tmp_path / name).write_text("SELECT 1;")
    assert [m.name for m in read_folder(tmp_path)] == ["a", "b", "c"]


def test_squawk_finds_nothing_unexplained() -> None:
    files = sorted(map(str, migrations_folder().glob("*.sql")))
    squawk = Path(sys.executable).with_name("squawk")
    done = subprocess.run([squawk, *files], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"Found 0 issues in {len(files)} files" in done.stdout
