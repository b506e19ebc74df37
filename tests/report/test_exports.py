"""Exports are as their official schemas say, and never read better than the report."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from pytest_tenantproof.report import RENDERERS, render_csv, render_frameworks, render_junit, render_oscal, render_sarif
from pytest_tenantproof.report.frameworks import view
from pytest_tenantproof.report.sheet import COLUMNS
from tests.report.conftest import HOSTILE
from tests.report.official import oscal_python, sarif_schema


def _sarif_problems(log: dict[str, Any]) -> list[str]:
    """By the schema, and by the formats that it names: addresses and times."""
    formats = jsonschema.Draft7Validator.FORMAT_CHECKER
    assert {"uri", "uri-reference", "date-time"} <= set(formats.checkers), "a format that nothing checks is not checked"
    return [e.message for e in jsonschema.Draft7Validator(sarif_schema(), format_checker=formats).iter_errors(log)]


@pytest.mark.xdist_group("sarif")
def test_sarif_is_valid_and_has_every_failure(report: dict[str, Any]) -> None:
    log = json.loads(render_sarif(report))
    assert _sarif_problems(log) == []
    (run,) = log["runs"]
    assert [r["ruleId"] for r in run["results"]] == ["TP101", "TP101", "TP102", "TP107"]
    assert len({r["partialFingerprints"]["tenantproof/v1"] for r in run["results"]}) == 4
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert [n["associatedRule"]["id"] for n in invocation["toolExecutionNotifications"]] == ["TP103", "TP104"]


@pytest.mark.xdist_group("sarif")
@pytest.mark.parametrize(
    "change",
    [
        lambda run: run["invocations"][0].update(endTimeUtc="yesterday"),
        lambda run: run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"].update(uri="a b<c>"),
        lambda run: run["results"][0].update(level="red"),
        lambda run: run["results"][0].pop("message"),
        lambda run: run["results"][2]["suppressions"][0].pop("kind"),
    ],
)
def test_what_is_no_sarif_is_told(report: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    log = json.loads(render_sarif(report))
    change(log["runs"][0])
    assert _sarif_problems(log)


@pytest.mark.xdist_group("oscal")
def test_oscal_is_valid_and_only_passed_is_satisfied(report: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "oscal-ar.json"
    file.write_bytes(render_oscal(report))
    script = (
        "import sys, pathlib\nfrom trestle.oscal import OSCAL_VERSION\n"
        "from trestle.oscal.assessment_results import AssessmentResults\n"
        "AssessmentResults.oscal_read(pathlib.Path(sys.argv[1]))\nprint(OSCAL_VERSION)"
    )
    done = subprocess.run([str(oscal_python()), "-c", script, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(file.read_bytes())["assessment-results"]
    # the models are of that very version: what it says it is, it was checked against
    assert document["metadata"]["oscal-version"] == done.stdout.strip() == "1.2.1"
    (result,) = document["results"]
    states = {f["target"]["target-id"]: f["target"]["status"]["state"] for f in result["findings"]}
    assert [i for i, state in states.items() if state == "satisfied"] == ["tp106"]
    assert len(states) == 7
    assert render_oscal(report) == file.read_bytes()


def test_csv_has_every_finding_and_runs_nothing(report: dict[str, Any]) -> None:
    text = render_csv(report).decode()
    table = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert {len(row) for row in table} == {len(COLUMNS)}
    assert text.endswith("\r\n")
    assert tuple(table[0]) == COLUMNS
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table[1:]]
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


PYTESTS_OWN = """
import pytest
def test_passes(): pass
def test_fails(): assert 0, "so"
def test_is_skipped(): pytest.skip("why")
@pytest.fixture
def broken(): raise RuntimeError("so")
def test_errs(broken): pass
"""


COUNTERS = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}


def _shape(document: bytes) -> dict[str, set[str]]:
    """Attributes, and children as `<name>`, of each kind of element."""
    found: dict[str, set[str]] = {}
    for element in ET.fromstring(document).iter():
        found.setdefault(element.tag, set()).update(element.attrib, (f"<{child.tag}>" for child in element))
    return found


def test_junit_is_as_pytest_writes_it(report: dict[str, Any], tmp_path: Path) -> None:
    """JUnit has no official schema. What reads pytest's reads ours: no element or attribute is another, and all counts
    are those of the elements."""
    (tmp_path / "test_own.py").write_text(PYTESTS_OWN)
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=own.xml", "test_own.py"]
    subprocess.run(line, cwd=tmp_path, capture_output=True, check=False)
    pytests, ours = _shape((tmp_path / "own.xml").read_bytes()), _shape(render_junit(report))
    assert set(ours) == {"testsuites", "testsuite", "testcase", "failure", "error", "skipped"}
    assert {tag: names - pytests[tag] for tag, names in ours.items() if names - pytests[tag]} == {}
    for suite in ET.fromstring(render_junit(report)).iter("testsuite"):
        for counter, tag in COUNTERS.items():
            assert int(suite.attrib[counter]) == len(list(suite.iter(tag))), counter


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
