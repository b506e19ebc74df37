"""docs/MULTI-TENANT-SECURITY.md claims nothing without a control that passed and was seen to turn red."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.control import control_of
from pytest_tenantproof.controls.judge import functions
from tests.support import REPOSITORY

PAGE = REPOSITORY / "docs" / "MULTI-TENANT-SECURITY.md"


def claims() -> list[tuple[str, list[str]]]:
    """Each claim with the ids of its controls."""
    part = PAGE.read_text().partition("## Claims")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")][2:]
    return [(claim.strip(), [i.strip() for i in ids.split(",")]) for _, claim, ids in rows]


def test_every_claim_names_controls_that_exist_and_carry_a_fault() -> None:
    """The faults themselves are injected by tests/controls/test_falsified.py and the tests of 3xx, 6xx and 7xx."""
    known = functions()
    assert len(claims()) > 20
    for claim, ids in claims():
        for control_id in ids:
            declared = control_of(known[control_id])
            assert declared is not None, (claim, control_id)
            assert declared.faults, (claim, control_id)


def test_every_control_that_the_page_names_is_a_claim_or_a_limit() -> None:
    text = PAGE.read_text()
    assert set(re.findall(r"TP\d{3}", text)) <= set(functions())


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """report.json of a whole run on the embedded target, with every fault injected."""
    folder: Path = tmp_path_factory.mktemp("embedded")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--evidence=embedded", "--prove"]
    command += [f"--evidence-dir={folder}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    [report] = folder.glob("embedded/*/report.json")
    assert done.returncode == 0, done.stdout[-3000:]
    found: dict[str, Any] = json.loads(report.read_text())
    return found


@pytest.mark.long
def test_every_claim_passed_in_an_embedded_bundle_with_its_faults_detected(embedded: dict[str, Any]) -> None:
    """Long, because a run with --prove is: about two minutes."""
    controls = {c["id"]: c for c in embedded["controls"]}
    for claim, ids in claims():
        for control_id in ids:
            found = controls[control_id]
            assert found["outcome"] == "passed", (claim, control_id, found["reason"])
            falsified = found["falsified"]
            assert falsified is not None, (claim, control_id)
            assert 0 < falsified["detected"] == falsified["faults"], (claim, control_id)
    where = re.findall(r"^\|[^|]+\|([^|]+)\|", PAGE.read_text(), re.MULTILINE)
    fields = [field for cell in where for field in re.findall(r"`([a-z_.\[\]]+)`", cell)]
    assert {"verdict", "target.name", "controls[].falsified"} <= set(fields)
    for field in fields:
        assert field.split(".")[0].removesuffix("[]") in embedded, field
