"""A live run leaves to staging what it must not do itself, and says whether staging did it."""

from datetime import date, timedelta
from pathlib import Path

from tests.plugin.conftest import CONFIG, Run
from tests.plugin.test_runs import newest, outcomes

WAIVER = """
[[tenantproof.waivers]]
control = "TP921"
object = "*"
owner = "ann"
approver = "bob"
reason = "staging comes in January"
expires = {}
"""
OWN = """
from pytest_tenantproof import Severity, control, falsified_by

@control("ACME301", title="Attack by writing", severity=Severity.HIGH, requirement="A1", maps=None)
@falsified_by("SELECT 1")
def check_by_writing(target, findings):
    '''It writes.'''
    if target.class_ == "live":
        findings.elsewhere("it writes")
"""


def test_a_live_run_needs_a_recent_bundle_that_ran_what_it_cannot(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "tenantproof.toml").write_text(CONFIG.replace("[tenantproof]", '[tenantproof]\ncontrols = ["own.py"]'))
    done = run("--evidence=prod", "-m", "probe or evidence", "-n", "2")
    assert done.returncode == 1, done.stdout[-3000:]
    path, report = newest(tmp_path, "prod")
    assert outcomes(report)["ACME301"] == "not_applicable"
    assert outcomes(report)["TP921"] == "failed"
    # TP921 is not in this scope, and yet nothing reads as proven.
    done = run("--evidence=prod", "-m", "probe or invariant")
    path, report = newest(tmp_path, "prod")
    assert (done.returncode, report["verdict"]) == (2, "not_proven"), done.stdout[-3000:]
    assert set(outcomes(report).values()) == {"passed", "not_applicable"}

    # Nor is it where TP921 is waived.
    config = tmp_path / "tenantproof.toml"
    plain = config.read_text()
    config.write_text(plain + WAIVER.format(date.today() + timedelta(days=30)))
    done = run("--evidence=prod", "-m", "probe or evidence")
    path, report = newest(tmp_path, "prod")
    (waived,) = (control for control in report["controls"] if control["waiver"])
    assert (waived["id"], waived["outcome"], report["verdict"]) == ("TP921", "failed", "not_proven")
    assert done.returncode == 2, done.stdout[-3000:]
    config.write_text(plain)

    staging = run("--evidence=staging", "-m", "probe")
    there = outcomes(newest(tmp_path, "staging")[1])
    assert (staging.returncode, there["ACME301"], there["TP301"]) == (0, "passed", "passed"), staging.stdout[-3000:]
    done = run("--evidence=prod", "-m", "probe or evidence")
    path, report = newest(tmp_path, "prod")
    assert (done.returncode, outcomes(report)["TP921"]) == (0, "passed"), done.stdout[-3000:]
    (proof,) = (found for found in report["proven_elsewhere"] if found["control"] == "ACME301")
    assert (proof["target"], proof["run_id"]) == ("staging", newest(tmp_path, "staging")[0].name)
    assert proof["run_id"] in (path / "report.html").read_text()
    assert f"ok  ACME301  staging {proof['run_id']}" in done.stdout
