"""Every run is held against the locked catalogue: controls that are absent, renamed or declared twice prove nothing.

Each is a run of a changed copy of the package, as somebody would have it whose installation was tampered with, or
whose merge went wrong.
"""

import re
import shutil
from pathlib import Path

import pytest

from pytest_tenantproof.attest import keys
from pytest_tenantproof.attest.verify import verify_bundle
from pytest_tenantproof.controls import catalogue
from tests.plugin.conftest import Run
from tests.plugin.test_runs import newest, outcomes
from tests.support import REPOSITORY

FILE = "pytest_tenantproof/controls/test_row_security.py"
COPY = """

@control(
    "TP203",
    title="Row security is forced on every tenant table",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=None,
)
@falsified_by("ALTER TABLE {tenant_table} NO FORCE ROW LEVEL SECURITY")
def test_another(catalog: Catalog, findings: Findings) -> None:
    \"\"\"Answers for the one whose id it took.\"\"\"
"""
IN_FILE = {control.id for control in catalogue() if control.source.startswith("test_row_security.")}
FORCED = '"TP203",'


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that a run in tmp_path takes for the installed one; the file of its controls on RLS."""
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "pytest_tenantproof", tmp_path / "pytest_tenantproof", ignore=leave)
    shutil.copytree(REPOSITORY / "migrations", tmp_path / "migrations")
    (tmp_path / "docs").mkdir()
    shutil.copy(REPOSITORY / "docs" / "report.schema.json", tmp_path / "docs")
    file = tmp_path / FILE
    assert file.read_text().count(FORCED) == 1
    return file


def _renamed(file: Path) -> None:
    file.write_text(file.read_text().replace(FORCED, '"TP299",'))


def _retitled(file: Path) -> None:
    """The id stays, and something else stands behind it."""
    file.write_text(file.read_text().replace("Row security is forced on every tenant table", "Row security is nice"))


def _declared_twice(file: Path) -> None:
    file.write_text(file.read_text() + COPY)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (Path.unlink, IN_FILE),
        (_renamed, {"TP203", "TP299"}),
        (_retitled, {"TP203"}),
        (_declared_twice, {"TP203"}),
    ],
    ids=["absent", "renamed", "retitled", "twice"],
)
def test_a_catalogue_that_is_not_the_locked_one_proves_nothing(
    run: Run, tmp_path: Path, copy: Path, change: object, missing: set[str]
) -> None:
    assert callable(change)
    change(copy)
    done = run("--evidence=staging", "-m", "evidence")
    assert done.returncode == 2, done.stdout[-3000:] + done.stderr
    path, report = newest(tmp_path, "staging")
    assert set(report["scope"]["missing"]) == missing
    assert set(outcomes(report).values()) <= {"passed", "not_applicable"}
    assert verify_bundle(path, [keys.read_public(tmp_path / "keys" / "tenantproof.pub")]).verdict == "not_proven"
    assert "these controls are not as in catalogue.lock: TP2" in done.stdout
    assert re.search(r"NOT PROVEN \(scope: evidence, \d+ of \d+, \d+ not established\)", done.stdout)


def test_of_two_with_one_id_the_worse_counts(run: Run, tmp_path: Path, copy: Path) -> None:
    """And both are run: the one that was to be hidden is not."""
    worse = COPY.replace('Answers for the one whose id it took."""', 'Fails."""\n    findings.add("x", "is wrong")')
    _declared_twice(copy)
    copy.write_text(copy.read_text().replace(COPY, worse))
    done = run("--evidence=staging", "-m", "rls")
    assert done.returncode == 1, done.stdout[-3000:]
    _, report = newest(tmp_path, "staging")
    assert outcomes(report)["TP203"] == "failed"
    assert report["verdict"] == "failed"
    assert report["scope"]["missing"] == ["TP203"]
