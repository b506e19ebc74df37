"""What a run does, says and leaves, by its exit status and its bundle."""

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.attest import bundle, keys
from pytest_tenantproof.attest.verify import verify_bundle, verify_chain
from pytest_tenantproof.controls import catalogue
from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start
from tests.plugin.conftest import CONFIG, Run, Tool

OWN = '''
import os
from pytest_tenantproof import Severity, control, falsified_by

@control("ACME101", title="Ours", severity=Severity.LOW, requirement="A1", maps=None)
@falsified_by("SELECT 1")
def check_ours(catalog, findings):
    """Because we want to."""
    {body}
'''


def newest(folder: Path, target: str) -> tuple[Path, dict[str, Any]]:
    path = bundle.bundles(folder / "evidence" / target)[-1]
    return path, json.loads((path / "report.json").read_bytes())


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {control["id"]: control["outcome"] for control in report["controls"]}


def test_without_the_option_the_plugin_does_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_mine(): pass")
    done = run("-q")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert "tenantproof" not in done.stdout
    assert not (tmp_path / "evidence").exists()


def test_a_live_run_is_proven_read_only_and_signed(run: Run, tmp_path: Path, product: EmbeddedPostgres) -> None:
    assert run("--evidence=staging", "-m", "gate").returncode == 0
    done = run("--evidence=prod", "-m", "gate")
    assert done.returncode == 0, done.stdout + done.stderr
    path, report = newest(tmp_path, "prod")
    verified = verify_bundle(path, [keys.read_public(tmp_path / "keys" / "tenantproof.pub")])
    assert (verified.verdict, verified.ephemeral) == ("proven", False)
    assert report["target"]["class"] == "live"
    assert report["target"]["read_only"] is True
    assert report["scope"]["expression"] == "gate"
    assert re.search(r"verdict: PROVEN \(scope: gate, \d+ of \d+\)", done.stdout)
    assert done.stdout.splitlines()[-2].startswith("verify:  tenantproof verify")


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "said"),
    [
        (["--evidence=nowhere"], {}, 4, "unknown target 'nowhere'"),
        (["--evidence=prod"], {"TENANTPROOF_PROD_DSN": None}, 4, "set TENANTPROOF_PROD_DSN"),
        (["--evidence=prod"], {keys.KEY_FILE_VARIABLE: None}, 4, "needs a signing key"),
        (["--evidence=staging"], {"TENANTPROOF_STAGING_DSN": "host=127.0.0.1 port=1 dbname=x"}, 2, "cannot connect"),
        (["--evidence=staging"], {"TENANTPROOF_STAGING_DSN": "postgres//nonsense"}, 2, "malformed"),
        (["--evidence=staging", "--evidence-config=none.toml"], {}, 4, "cannot be read"),
        (["--evidence=container"], {"DOCKER_HOST": "tcp://127.0.0.1:1"}, 2, "start Docker"),
    ],
)
def test_bad_calls_say_the_remedy_and_leave_nothing(
    run: Run, tmp_path: Path, arguments: list[str], environment: dict[str, str | None], status: int, said: str
) -> None:
    done = run(*arguments, **environment)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Remedy:" in done.stdout + done.stderr
    assert not list((tmp_path / "evidence").rglob("report.json"))


def test_a_config_error_names_key_and_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tenantproof.toml").write_text(CONFIG.replace("schemas =", "schemes ="))
    done = run("--evidence=staging")
    assert done.returncode == 4
    assert re.search(r"tenantproof\.toml:\d+: tenantproof\.schemes is unknown", done.stderr)


def test_narrowing_is_never_an_unqualified_proof(run: Run, tmp_path: Path) -> None:
    for arguments in (["-k", "TP203"], ["-m", "rls and not gate"]):
        done = run("--evidence=staging", *arguments)
        assert done.returncode == 2, done.stdout
        _, report = newest(tmp_path, "staging")
        assert report["verdict"] == "not_proven"
        assert report["scope"]["narrowed"] is True
    assert 0 < report["scope"]["selected"] < report["scope"]["of"]
    assert run("--evidence=staging", "-k", "no_such_control").returncode == 2


def test_workers_give_the_same_report(run: Run, tmp_path: Path) -> None:
    assert run("--evidence=staging", "-m", "gate").returncode == 0
    _, alone = newest(tmp_path, "staging")
    assert run("--evidence=staging", "-m", "gate", "-n", "4").returncode == 0
    _, shared = newest(tmp_path, "staging")
    gate = [c.id for c in catalogue() if "gate" in c.markers]
    assert [c["id"] for c in shared["controls"]] == gate
    assert (shared["scope"]["selected"], shared["scope"]["of"]) == (len(gate), len(catalogue()))
    for report in (alone, shared):
        for key in ("run_id", "started", "finished", "previous", "clocks", "tool"):
            report.pop(key)
        for control in report["controls"]:
            control.pop("duration_s")
    assert alone == shared
    assert (
        len(verify_chain(tmp_path / "evidence" / "staging", [keys.read_public(tmp_path / "keys/tenantproof.pub")])) == 2
    )


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_a_crashed_control_is_an_error(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "tenantproof.toml").write_text(CONFIG.replace("[tenantproof]", '[tenantproof]\ncontrols = ["own.py"]'))
    body = "os._exit(9)" if arguments else "raise RuntimeError('boom')"
    (tmp_path / "own.py").write_text(OWN.format(body=body))
    done = run("--evidence=staging", *arguments)
    assert done.returncode == 2, done.stdout[-2000:]
    _, report = newest(tmp_path, "staging")
    assert outcomes(report)["ACME101"] == "error"
    assert report["verdict"] == "not_proven"


@pytest.mark.parametrize(
    ("body", "outcome", "status"),
    [
        ("pass", "passed", 0),
        ("findings.add('x.y', 'is wrong', fix='mend it')", "failed", 1),
        ("findings.not_applicable('no such thing here')", "not_applicable", 0),
        ("findings.not_run('could not look')", "not_run", 2),
        ("import pytest; pytest.skip('later')", "not_run", 2),
        ("import pytest; pytest.xfail('known')", "error", 2),
        ("assert 1 == 2", "failed", 1),
        ("1 / 0", "error", 2),
    ],
)
def test_outcomes_of_own_controls(run: Run, tmp_path: Path, body: str, outcome: str, status: int) -> None:
    (tmp_path / "tenantproof.toml").write_text(CONFIG.replace("[tenantproof]", '[tenantproof]\ncontrols = ["own.py"]'))
    (tmp_path / "own.py").write_text(OWN.format(body=body))
    done = run("--evidence=staging", "-m", "invariant")
    assert done.returncode == status, done.stdout[-1500:]
    _, report = newest(tmp_path, "staging")
    found = next(control for control in report["controls"] if control["id"] == "ACME101")
    assert found["outcome"] == outcome
    assert outcome == "passed" or found["reason"] or found["findings"]


def test_an_undeclared_control_stops_the_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(OWN.format(body="pass"))
    done = run("--evidence=staging", "test_own.py")
    assert done.returncode == 4
    assert "not in the catalogue" in done.stdout + done.stderr


def test_an_empty_schema_is_an_error(run: Run, tmp_path: Path) -> None:
    with start(find_bin(18)) as empty:
        done = run("--evidence=staging", TENANTPROOF_STAGING_DSN=empty.dsn())
    assert done.returncode == 2
    assert "nothing to prove" in done.stdout + done.stderr
    assert not list((tmp_path / "evidence").rglob("report.json"))


def test_evidence_that_cannot_be_written_is_loud(run: Run, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    done = run("--evidence=staging", "--evidence-dir=blocked")
    assert done.returncode == 3
    assert "no evidence was written" in done.stdout


def test_a_run_that_cannot_be_logged_is_loud(run: Run, tmp_path: Path) -> None:
    assert run("--evidence=staging", "-m", "invariant").returncode == 0
    entries = tmp_path / "evidence" / "log" / "entries.jsonl"
    entries.write_bytes(entries.read_bytes().replace(b"proven", b"failed"))
    done = run("--evidence=staging", "-m", "invariant")
    assert done.returncode == 3
    assert "is in no log of runs yet" in done.stdout
    assert "start a new --evidence-dir" in done.stdout


def test_a_red_target_fails_and_names_object_and_fix(tool: Tool, product: EmbeddedPostgres) -> None:
    """By `status`, which is a run by another name."""
    with psycopg.connect(product.dsn(), autocommit=True) as connection:
        connection.execute("ALTER TABLE public.units NO FORCE ROW LEVEL SECURITY")
        try:
            done = tool("status", "--target", "staging")
        finally:
            connection.execute("ALTER TABLE public.units FORCE ROW LEVEL SECURITY")
    assert done.returncode == 1
    red = re.findall(r"^ +(FAIL|ERROR|NOT RUN)  (TP\d+)  .+\n +- (.+)$", done.stdout, re.M)
    assert ("FAIL", "TP203", "public.units: row security is not forced") in red
    assert {mark for mark, *_ in red} == {"FAIL"}
    assert "verdict: FAILED" in done.stdout
    assert "fix: ALTER TABLE public.units FORCE ROW LEVEL SECURITY;" in done.stdout


def test_controls_are_listed_readably(run: Run) -> None:
    done = run("--evidence=embedded", "--collect-only")
    assert done.returncode == 0
    listed = re.findall(r"^ *<Control (TP\d{3}) \[(\w+)\] (.+)>$", done.stdout, re.M)
    assert sorted(listed) == [(c.id, str(c.severity), c.title) for c in catalogue()]
    assert "<Function" not in done.stdout
    assert "starting an embedded Postgres" not in done.stdout  # a list needs no server
