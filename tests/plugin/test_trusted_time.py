"""A run with a timestamp authority: its time is in the report, its token in the bundle, its silence is loud."""

from pathlib import Path

import pytest

from pytest_tenantproof.attest import keys
from pytest_tenantproof.attest.verify import TrustedTime, verify_bundle
from tests.attest.tsa import serve
from tests.plugin.conftest import CONFIG, Run
from tests.plugin.test_runs import newest, outcomes

SECTION = '[tenantproof.timestamp]\nurl = "{url}"\nroot = "tsa/ca.crt"\npolicy = "{policy}"\ntimeout_s = 2\n'


def test_a_run_is_timestamped(run: Run, tmp_path: Path) -> None:
    with serve(tmp_path / "tsa") as tsa:
        (tmp_path / "tenantproof.toml").write_text(CONFIG + SECTION.format(url=tsa.url, policy="required"))
        done = run("--evidence=staging", "-m", "evidence")
        assert done.returncode == 0, done.stdout + done.stderr
        path, report = newest(tmp_path, "staging")
        assert set(report["clocks"]) == {"local", "database", "trusted"}
        assert (outcomes(report)["TP941"], outcomes(report)["TP942"]) == ("passed", "passed")
        key = keys.read_public(tmp_path / "keys" / "tenantproof.pub")
        assert verify_bundle(path, [key], time=TrustedTime(tsa.root)).trusted_time is not None


@pytest.mark.parametrize(("policy", "status"), [("required", 3), ("optional", 1)])
def test_a_silent_authority_is_loud(run: Run, tmp_path: Path, policy: str, status: int) -> None:
    (tmp_path / "tenantproof.toml").write_text(CONFIG + SECTION.format(url="http://127.0.0.1:1/", policy=policy))
    with serve(tmp_path / "tsa"):
        done = run("--evidence=staging", "-m", "evidence")
    assert done.returncode == status, done.stdout + done.stderr
    assert "timestamp authority gave no usable timestamp" in done.stdout + done.stderr
    if policy == "required":
        assert not list((tmp_path / "evidence").rglob("report.json"))
    else:
        _, report = newest(tmp_path, "staging")
        assert outcomes(report)["TP942"] == "failed"
        assert "ConnectionError" in report["clocks"]["trusted_error"]
