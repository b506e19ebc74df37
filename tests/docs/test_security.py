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


def checklist() -> list[tuple[list[str], str]]:
    """The fields of report.json that each question is answered by, and the controls behind them."""
    part = PAGE.read_text().partition("| ask | field |")[2]
    rows = [line.strip("|").split(" | ") for line in part.splitlines() if line.startswith("|")][1:]
    return [(re.findall(r"`([a-z0-9_.\[\]]+)`", row[1]), row[3].strip(" |")) for row in rows]


def _has(schema: dict[str, Any], path: list[str], definitions: dict[str, Any]) -> bool:
    """Whether a JSON schema knows the field."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if not path or schema.get("additionalProperties") not in (None, False):
        return True
    for one in (schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        name = path[0].removesuffix("[]")
        if name in one.get("properties", {}):
            found = one["properties"][name]
            return _has(found["items"] if path[0].endswith("[]") else found, path[1:], definitions)
    return False


def test_the_evidence_checklist_links_controls_to_fields_of_the_report() -> None:
    schema = json.loads((REPOSITORY / "docs" / "report.schema.json").read_text())
    named: set[str] = set()
    assert len(checklist()) > 15
    for fields, behind in checklist():
        assert fields
        for field in fields:
            assert _has(schema, field.split("."), schema["$defs"]), field
        ids = re.findall(r"TP\d{3}", behind)
        assert ids or behind in ("the run itself", "all of them"), behind
        named |= set(ids)
    assert named <= set(functions())
    assert {i[2] for i in named} == {i[2] for i in functions()}, "a family has no row"
    claimed = {i for _, ids in claims() for i in ids}
    assert not _has(schema, ["target", "nothing"], schema["$defs"])
    assert {i for i in claimed if i.startswith("TP7")} & named


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
    for fields, behind in checklist():
        assert set(re.findall(r"TP\d{3}", behind)) <= controls.keys()
        there = {field.split(".")[0].removesuffix("[]") for field in fields}
        assert there - {"proven_elsewhere", "attestations"} <= embedded.keys()  # which only some runs have
