"""Waivers and attestations in a whole run: the true outcome stays, and the verdict says what was excused."""

import json
from datetime import date, timedelta
from pathlib import Path

from tests.plugin.conftest import CONFIG, Run
from tests.plugin.test_runs import newest, outcomes

OWN = """
from pytest_tenantproof import Severity, control, falsified_by

@control("ACME101", title="Ours", severity=Severity.HIGH, requirement="A1", maps={"SOC2": ["CC6.1"]})
@falsified_by("SELECT 1")
def check_ours(catalog, findings):
    '''Because we want to.'''
    findings.add("public.legacy", "is wrong")
"""
WAIVER = """
[[tenantproof.waivers]]
control = "{control}"
object = "{object}"
owner = "ann"
approver = "{approver}"
reason = "it goes in January"
expires = {expires}
"""
SOON = date.today() + timedelta(days=30)


def configure(folder: Path, *waivers: dict[str, object], more: str = "") -> None:
    given: dict[str, object] = {"control": "ACME101", "object": "public.leg*", "approver": "bob", "expires": SOON}
    text = CONFIG.replace("[tenantproof]", '[tenantproof]\ncontrols = ["own.py"]')
    (folder / "tenantproof.toml").write_text(text + "".join(WAIVER.format(**(given | w)) for w in waivers) + more)
    (folder / "own.py").write_text(OWN)


def test_a_waived_failure_leaves_the_verdict_qualified(run: Run, tmp_path: Path) -> None:
    configure(tmp_path, {})
    done = run("--evidence=staging", "-m", "invariant or evidence", "-n", "2")
    assert done.returncode == 0, done.stdout[-3000:]
    path, report = newest(tmp_path, "staging")
    ours = next(control for control in report["controls"] if control["id"] == "ACME101")
    assert (ours["outcome"], ours["waiver"]["approver"]) == ("failed", "bob")
    assert outcomes(report)["TP931"] == outcomes(report)["TP932"] == "passed"
    assert ", 1 waived)" in done.stdout
    (kept,) = json.loads((path / "results.sarif").read_bytes())["runs"][0]["results"]
    assert (kept["ruleId"], [s["status"] for s in kept["suppressions"]]) == ("ACME101", ["accepted"])


def test_an_unsound_or_needless_waiver_is_a_finding(run: Run, tmp_path: Path) -> None:
    configure(tmp_path, {"approver": "ann"}, {"control": "TP102", "object": "public.x"}, {"object": "public.other"})
    done = run("--evidence=staging", "-m", "invariant or evidence")
    assert done.returncode == 1, done.stdout[-3000:]
    _, report = newest(tmp_path, "staging")
    found = {c["id"]: [f["detail"] for f in c["findings"]] for c in report["controls"]}
    assert outcomes(report)["ACME101"] == "failed"
    assert found["TP931"] == ["is approved by its own owner, ann"]
    assert sorted(found["TP932"]) == ["matches no finding of the control", "the control passes now"]


def test_an_attestation_that_ended_is_not_run(run: Run, tmp_path: Path) -> None:
    attestation = (
        '[[tenantproof.attestations]]\nwhat = "reviews"\nwho = "ann"\nuntil = {}\nclauses = {{SOC2 = ["CC1.1"]}}\n'
    )
    configure(tmp_path, {}, more=attestation.format(SOON))
    assert run("--evidence=staging", "-m", "invariant or evidence").returncode == 0
    path, report = newest(tmp_path, "staging")
    assert outcomes(report)["TP951"] == "passed"
    assert report["attestations"][0]["outcome"] == "attested"
    assert "by hand: reviews (ann)" in (path / "frameworks.html").read_text()
    configure(tmp_path, {}, more=attestation.format(date.today() - timedelta(days=2)))
    assert run("--evidence=staging", "-m", "invariant or evidence").returncode == 2
    _, report = newest(tmp_path, "staging")
    assert outcomes(report)["TP951"] == "not_run"
    assert report["attestations"][0]["outcome"] == "not_run"
