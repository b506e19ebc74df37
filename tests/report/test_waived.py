"""Waived never reads as passed, in anything that leaves the tool. Each reader says which controls an export shows as
passed, as whoever receives it would find out."""

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pytest_tenantproof.attest import bundle, runlog
from pytest_tenantproof.attest.record import to_bytes
from pytest_tenantproof.attest.rollup import Member, verify_rollup, write_rollup
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.statement import statement
from pytest_tenantproof.attest.verdict import recomputed
from pytest_tenantproof.notify import Change
from pytest_tenantproof.notify.slack import message
from pytest_tenantproof.plugin.finish import Written
from pytest_tenantproof.plugin.tell import summary
from pytest_tenantproof.report import RENDERERS, checklist
from pytest_tenantproof.report.site import Trust, build

Report = dict[str, Any]
PASSED, WAIVED = "TP106", "TP102"


def _green(page: str, part: str) -> set[str]:
    """Ids of the controls in rows (`part` starts one) that have anything of class or word "passed"."""
    rows = [
        row
        for row in re.split(part, page)[1:]
        if re.search(r'class="[^"]*\bpassed\b|>passed<|data-outcome="passed', row)
    ]
    return {found for row in rows for found in re.findall(r"TP1\d\d", row)[:1]}


def _report_html(report: Report) -> set[str]:
    page = RENDERERS["report.html"](report).decode()
    return _green(page, "<details|<article|</section>")


def _frameworks(report: Report) -> set[str]:
    return _green(RENDERERS["frameworks.html"](report).decode(), "<li>|</ul>")


def _junit(report: Report) -> set[str]:
    cases = ET.fromstring(RENDERERS["junit.xml"](report)).iter("testcase")
    return {case.attrib["name"].split()[0] for case in cases if not list(case)}


def _csv(report: Report) -> set[str]:
    rows = csv.DictReader(io.StringIO(RENDERERS["results.csv"](report).decode()))
    return {row["control"] for row in rows if row["outcome"] == "passed"}


def _sarif(report: Report) -> set[str]:
    """A rule of which nothing is said did not fail."""
    (run,) = json.loads(RENDERERS["results.sarif"](report))["runs"]
    said = {result["ruleId"] for result in run["results"]}
    said |= {n["associatedRule"]["id"] for n in run["invocations"][0]["toolExecutionNotifications"]}
    return {rule["id"] for rule in run["tool"]["driver"]["rules"]} - said


def _oscal(report: Report) -> set[str]:
    (result,) = json.loads(RENDERERS["oscal-ar.json"](report))["assessment-results"]["results"]
    return {
        finding["target"]["target-id"].upper()
        for finding in result["findings"]
        if finding["target"]["status"]["state"] == "satisfied"
        or {"name": "outcome", "value": "passed"}.items() <= finding["props"][0].items()
    }


def _statement(report: Report) -> set[str]:
    return set(json.loads(statement(report, {"report.json": b""}))["predicate"]["passedTests"])


def _terminal(report: Report) -> set[str]:
    return {line.split()[1] for line in checklist(report) if line.split()[:1] == ["ok"]}


def _report_json(report: Report) -> set[str]:
    return {control["id"] for control in json.loads(to_bytes(report))["controls"] if control["outcome"] == "passed"}


READERS: dict[str, Callable[[Report], set[str]]] = {
    "report.json": _report_json,
    "report.html": _report_html,
    "frameworks.html": _frameworks,
    "junit.xml": _junit,
    "results.csv": _csv,
    "results.sarif": _sarif,
    "oscal-ar.json": _oscal,
    "statement": _statement,
    "terminal": _terminal,
}


def test_every_export_has_a_reader() -> None:
    assert set(RENDERERS) <= set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_a_waived_control_is_none_that_passed(report: Report, name: str) -> None:
    report["controls"][5]["maps"] = {"SOC2": ["CC6.1"]}  # else the view by framework does not rate it
    shown = READERS[name](report)
    assert PASSED in shown
    assert WAIVED not in shown
    # the reader would see it
    report["controls"][1].update(outcome="passed", waiver=None, findings=[])
    assert READERS[name](report) >= {PASSED, WAIVED}


def test_sarif_keeps_a_waived_finding_and_says_that_it_is_suppressed(report: Report) -> None:
    (run,) = json.loads(RENDERERS["results.sarif"](report))["runs"]
    suppressions = {result["ruleId"]: result["suppressions"] for result in run["results"]}
    assert suppressions == {
        "TP101": [],
        "TP107": [],
        WAIVED: [
            {
                "kind": "external",
                "status": "accepted",
                "justification": "until the view is gone (approved by bob until 2027-01-31)",
            }
        ],
    }


@pytest.fixture
def waived(report: Report, tmp_path: Path) -> tuple[Path, Report, Signer]:
    """A bundle that is proven but for what is waived."""
    signer, made = Signer(new_seed()), dict[str, Any]()
    report["controls"] = [c for c in report["controls"] if c["id"] in (PASSED, WAIVED)]
    report["scope"].update(selected=2, of=2)

    def after(run_id: str, previous: dict[str, str] | None) -> Report:
        made.update(report, previous=previous, run_id=run_id)
        made["verdict"] = str(recomputed(made))
        assert made["verdict"] == "proven"
        return made

    path = bundle.write_bundle(tmp_path / "evidence", "prod", signer, after, RENDERERS)
    runlog.append(tmp_path / "evidence", signer)
    return path, made, signer


def test_no_page_of_the_site_shows_it_green(waived: tuple[Path, Report, Signer], tmp_path: Path) -> None:
    path, _, signer = waived
    built = build(path.parents[1], tmp_path / "site", Trust((signer.public,)), datetime(2026, 11, 24, tzinfo=UTC))
    assert built.states == {"verified": 1}
    run = (tmp_path / f"site/targets/prod/{path.name}.html").read_text()
    assert _green(run, "<tr>|<article|</section>") == {PASSED}
    assert "Waived until 2027-01-31" in run
    heat = (tmp_path / "site/targets/prod/index.html").read_text()
    cells = re.findall(r'<tr>(?:(?!</tr>).)*?(TP1\d\d)(?:(?!</tr>).)*?<td class="(\w+)" aria-label', heat, re.S)
    assert dict(cells) == {PASSED: "passed", WAIVED: "waived"}
    for page in ("index.html", "targets/prod/index.html", f"targets/prod/{path.name}.html"):
        assert "1 waived" in (tmp_path / "site" / page).read_text(), page


def test_people_are_told_that_something_is_waived(waived: tuple[Path, Report, Signer]) -> None:
    path, made, _ = waived
    text = json.dumps(message(summary(Written(path, made, 0, ephemeral=False), Change())))
    assert "PROVEN (all 2 controls, 1 waived)" in text


def test_statements_are_warned_not_passed(waived: tuple[Path, Report, Signer], tmp_path: Path) -> None:
    """The run's own, and the roll-up over it."""
    path, made, signer = waived
    files = {"report.json": (path / "report.json").read_bytes()}
    own = json.loads(statement(made, files))["predicate"]
    assert (own["result"], own["passedTests"], own["warnedTests"]) == ("WARNED", [PASSED], [WAIVED])
    rollup = write_rollup(path.parents[1], [Member("prod", path)], signer, datetime.now(UTC))
    predicate, _ = verify_rollup(rollup, [signer.public])
    assert (predicate["result"], predicate["passedTests"], predicate["warnedTests"]) == ("WARNED", [], ["prod"])
