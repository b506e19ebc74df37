"""A run with a timestamp authority: its time is in the report, its token in the bundle, its silence is loud."""

from pathlib import Path

import pytest

from pytest_tenantproof.attest import keys, runlog
from pytest_tenantproof.attest.verify import TrustedTime, verify_bundle
from tests.attest.support import reason_of
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


FAULTS = {
    "silent": "ConnectionError",
    "slow": "ReadTimeout",
    "garbage": "timestamp-malformed",
    "refuse": "timestamp-refused",
}


@pytest.mark.parametrize("mode", FAULTS)
@pytest.mark.parametrize(("policy", "status"), [("required", 3), ("optional", 1)])
def test_an_authority_that_gives_no_time_is_loud(run: Run, tmp_path: Path, mode: str, policy: str, status: int) -> None:
    with serve(tmp_path / "tsa") as tsa:
        tsa.mode = mode
        url = "http://127.0.0.1:1/" if mode == "silent" else tsa.url
        config = CONFIG + SECTION.format(url=url, policy=policy).replace("timeout_s = 2", "timeout_s = 0.3")
        (tmp_path / "tenantproof.toml").write_text(config)
        done = run("--evidence=staging", "-m", "evidence")
    assert done.returncode == status, done.stdout + done.stderr
    assert f"timestamp authority gave no usable timestamp: {FAULTS[mode]}" in done.stdout + done.stderr
    if policy == "required":
        assert not list((tmp_path / "evidence").rglob("report.json"))
    else:
        path, report = newest(tmp_path, "staging")
        assert outcomes(report)["TP942"] == "failed"
        assert FAULTS[mode] in report["clocks"]["trusted_error"]
        assert not (path / "statement.tsr").exists()


@pytest.mark.parametrize(("policy", "status"), [("required", 3), ("optional", 0)])
def test_an_authority_that_fails_when_it_comes_to_signing(run: Run, tmp_path: Path, policy: str, status: int) -> None:
    """It gave its time at the start. What is required is required of the signature; where it is optional, the log of
    runs records that this run has no timestamp, and whoever asks for one is refused."""
    with serve(tmp_path / "tsa") as tsa:
        tsa.mode, tsa.good = "garbage", 1
        (tmp_path / "tenantproof.toml").write_text(CONFIG + SECTION.format(url=tsa.url, policy=policy))
        done = run("--evidence=staging", "-m", "evidence")
        assert tsa.good == 0
        assert done.returncode == status, done.stdout + done.stderr
        assert "timestamp authority gave no usable timestamp: timestamp-malformed" in done.stdout + done.stderr
        if policy == "required":
            assert not list((tmp_path / "evidence").rglob("report.json"))
            return
        path, _ = newest(tmp_path, "staging")
        (entry,) = runlog.entries_of(runlog.lines_of(tmp_path / "evidence"))
        assert (entry.run_id, entry.timestamp_sha256) == (path.name, "")
        key = keys.read_public(tmp_path / "keys" / "tenantproof.pub")
        assert reason_of(lambda: verify_bundle(path, [key], time=TrustedTime(tsa.root))) == "timestamp-missing"
