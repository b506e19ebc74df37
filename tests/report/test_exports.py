"""Exports are as their official schemas say, and never read better than the report."""

import csv
import io
import json
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from pytest_tenantproof.report import RENDERERS, render_csv, render_frameworks, render_junit, render_oscal, render_sarif
from pytest_tenantproof.report.frameworks import view
from tests.report.conftest import HOSTILE
from tests.report.official import oscal_python, sarif_schema


def test_sarif_is_valid_and_has_unwaived_failures_only(report: dict[str, Any]) -> None:
    log = json.loads(render_sarif(report))
    jsonschema.Draft7Validator(sarif_schema()).validate(log)
    (run,) = log["runs"]
    assert [r["ruleId"] for r in run["results"]] == ["TP101", "TP101", "TP107"]
    assert len({r["partialFingerprints"]["tenantproof/v1"] for r in run["results"]}) == 3
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert [n["associatedRule"]["id"] for n in invocation["toolExecutionNotifications"]] == ["TP103", "TP104"]


@pytest.mark.xdist_group("oscal")
def test_oscal_is_valid_and_only_passed_is_satisfied(report: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "oscal-ar.json"
    file.write_bytes(render_oscal(report))
    script = (
        "import sys, pathlib\nfrom trestle.oscal.assessment_results import AssessmentResults\n"
        "found = AssessmentResults.oscal_read(pathlib.Path(sys.argv[1]))\nprint(found.metadata.oscal_version)"
    )
    done = subprocess.run([str(oscal_python()), "-c", script, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1.2.1" in done.stdout
    (result,) = json.loads(file.read_bytes())["assessment-results"]["results"]
    states = {f["target"]["target-id"]: f["target"]["status"]["state"] for f in result["findings"]}
    assert [i for i, state in states.items() if state == "satisfied"] == ["tp106"]
    assert len(states) == 7
    assert render_oscal(report) == file.read_bytes()


def test_csv_has_every_finding_and_runs_nothing(report: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(report).decode())))
    assert [row["control"] for row in rows] == ["TP101", "TP101", *(f"TP10{n}" for n in range(2, 8))]
    assert [row["outcome"] for row in rows][2:] == ["waived", "error", "not_run", "not_applicable", "passed", "failed"]
    assert rows[2]["waived_until"] == "2027-01-31"
    assert rows[0]["object"] == HOSTILE
    assert not [cell for row in rows for cell in row.values() if cell[:1] in ("=", "+", "-", "@")]


def test_junit_never_passes_what_did_not(report: dict[str, Any]) -> None:
    cases = {case.get("name", "").split()[0]: case for case in ET.fromstring(render_junit(report)).iter("testcase")}
    assert {name: [child.tag for child in case] for name, case in cases.items()} == {
        "TP101": ["failure"],
        "TP102": ["skipped"],
        "TP103": ["error"],
        "TP104": ["error"],
        "TP105": ["skipped"],
        "TP106": [],
        "TP107": ["failure"],
    }


def test_frameworks_show_the_worst_outcome_and_what_is_unmapped(report: dict[str, Any]) -> None:
    found = {framework: {c.id: c for c in clauses} for framework, _, clauses in view(report)}
    assert found["SOC2"]["CC6.1"].outcome == "error"
    assert len(found["SOC2"]["CC6.1"].controls) == 6
    assert found["SOC2"]["CC1.1"].outcome == "unmapped"
    assert len(found["ISO27001:2022"]) == 93
    assert [c.id for c in found["CIS-PG17"].values()] == ["4.7"]
    page = render_frameworks(report).decode()
    assert "Unmapped:" in page
    assert "TP106" in page.partition("Controls that no clause fits")[2]


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_no_name_is_ever_markup(report: dict[str, Any], name: str) -> None:
    data = RENDERERS[name](report)
    data.decode("utf-8")
    if name.endswith((".html", ".xml")):
        assert b"<script>alert" not in data
