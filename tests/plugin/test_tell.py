"""Who hears of a run, from a real server that records what it gets."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.attest import bundle, keys
from pytest_tenantproof.attest.alerts import check_alerts
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.strictjson import load
from pytest_tenantproof.config import Settings, load_settings
from pytest_tenantproof.errors import TargetUnreachable
from pytest_tenantproof.model import Severity
from pytest_tenantproof.notify import Cause
from pytest_tenantproof.plugin.finish import Written
from pytest_tenantproof.plugin.tell import causes, settled, tell, tell_broken
from pytest_tenantproof.target import EmbeddedPostgres
from tests.attest.conftest import make_run
from tests.notify.support import HttpSink, http_sink
from tests.plugin.conftest import Run, Tool

CONFIG = """
[tenantproof.targets.prod]
class = "live"
[tenantproof.notify]
tries = 1
"""
SIGNER = Signer(new_seed())


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink() as running:
        yield running


def methods(sink: HttpSink) -> list[str]:
    found = [method for method, _, _ in sink.requests]
    sink.requests.clear()
    return found


def said(sink: HttpSink) -> str:
    return json.dumps([payload for _, _, payload in sink.requests])


def deliveries(path: Path, public: bytes) -> list[dict[str, str]]:
    """What a bundle says of its alerts, verified."""
    files = {p.name: p.read_bytes() for p in path.iterdir() if p.name.startswith("statement.")}
    key = load(files[bundle.STATEMENT_FILE], "it")["signatures"][0]["keyid"]
    return [dict(delivery) for delivery in check_alerts(files, {key: public}, key)]


@pytest.fixture
def settings(tmp_path: Path, sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "tenantproof.toml").write_text(CONFIG)
    monkeypatch.setenv("TENANTPROOF_SLACK_WEBHOOK", sink.url)
    monkeypatch.setenv("TENANTPROOF_CANARY_PING_URL", sink.url)
    return load_settings(tmp_path / "tenantproof.toml")


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., Written]:
    """A run of prod that ended, red by default, with its bundle."""

    def written(*, proven: bool = False, **target: str) -> Written:
        made: dict[str, Any] = {}

        def report_after(run_id: str, previous: dict[str, str] | None) -> dict[str, Any]:
            made.update(record(make_run(previous, run_id)))
            made["target"] |= target
            if proven:
                made["verdict"] = "proven"
                made["controls"][1] |= {"outcome": "passed", "findings": []}
            return made

        path = bundle.write_bundle(tmp_path / "evidence", "prod", SIGNER, report_after, {})
        return Written(path, made, 0 if proven else 1, ephemeral=False)

    return written


@pytest.mark.parametrize(
    ("mode", "red", "proven"),
    [
        ("failure", [["POST"], []], [["POST", "GET"], ["GET"]]),
        ("always", [["POST"], ["POST"]], [["POST", "GET"], ["POST", "GET"]]),
        ("never", [[], []], [[], []]),
    ],
)
def test_the_mode_says_which_runs_are_told(
    mode: str,
    red: list[list[str]],
    proven: list[list[str]],
    settings: Settings,
    sink: HttpSink,
    finished: Callable[..., Written],
) -> None:
    """Two runs that failed for the same cause, then two that are proven: told once, gone once, pinged each time."""
    for is_proven, expected in ((False, red), (True, proven)):
        for posts in expected:
            run = finished(proven=is_proven)
            assert tell(settings, run, mode, "canary", SIGNER) == []
            assert methods(sink) == posts
            assert [d["channel"] for d in deliveries(run.path, SIGNER.public)] == [
                {"GET": "dead-man's ping", "POST": "Slack"}[method] for method in posts
            ]


def test_the_message_has_what_people_need_and_names_cannot_bend_it(
    settings: Settings, sink: HttpSink, finished: Callable[..., Written]
) -> None:
    run = finished()
    run.report["controls"][1]["findings"][0]["object"] = "public.x\r\nBcc: y <!channel> https://evil.example \u202e"
    tell(settings, run, "failure", "canary", SIGNER)
    text = said(sink)
    for part in (
        "TP999",
        "A title",
        "ALTER TABLE x;",
        "statement sha256",
        "tenantproof verify",
        run.path.name,
        "1 new",
    ):
        assert part in text
    assert not any(part in text for part in ("\\r", "<!channel>", "\\u202e"))
    assert '"verbatim": true' in text


def test_an_alert_that_cannot_be_recorded_is_said_and_still_sent(
    settings: Settings, sink: HttpSink, finished: Callable[..., Written]
) -> None:
    run = finished()
    (run.path / bundle.ALERTS_FILE).mkdir()
    [problem] = tell(settings, run, "failure", "canary", SIGNER)
    assert "could not be written" in problem
    assert methods(sink) == ["POST"]


def test_a_warning_is_told_once_as_one(settings: Settings, sink: HttpSink, finished: Callable[..., Written]) -> None:
    run = finished(proven=True)
    run.report["controls"][0]["reason"] = "warning: pg_stat_activity: idle for 400 s"
    assert tell(settings, run, "failure", "canary", SIGNER) == []
    assert ("proven, with warnings" in said(sink), "idle for 400 s" in said(sink)) == (True, True)
    assert methods(sink) == ["POST", "GET"]
    run.report["controls"][0]["reason"] = "warning: pg_stat_activity: idle for 1300 s"
    assert tell(settings, run, "failure", "canary", SIGNER) == []
    assert methods(sink) == ["GET"]
    assert tell(settings, finished(proven=True), "failure", "canary", SIGNER) == []
    assert "recovered" in said(sink)


def test_scratch_targets_are_told_of_on_demand(
    settings: Settings, sink: HttpSink, finished: Callable[..., Written]
) -> None:
    for mode, expected in (("failure", []), ("always", ["POST"])):
        assert tell(settings, finished(name="embedded"), mode, "canary", SIGNER) == []
        assert methods(sink) == expected


def test_a_run_without_evidence_is_told_once_and_over_when_the_job_runs(
    settings: Settings, sink: HttpSink, finished: Callable[..., Written]
) -> None:
    error = TargetUnreachable("no server at postgresql://me:hunter2@db/app.", remedy="start it.")
    for expected in (["POST"], []):
        assert tell_broken(settings, "prod", "failure", "canary", error) == []
        assert ("no evidence could be made" in said(sink), "hunter2" in said(sink)) == (bool(expected), False)
        assert methods(sink) == expected
    assert tell_broken(settings, "prod", "never", "drill", error) == []
    assert tell(settings, finished(proven=True), "failure", "gate", SIGNER) == []
    assert methods(sink) == []
    assert tell(settings, finished(proven=True), "failure", "canary", SIGNER) == []
    assert methods(sink) == ["POST", "GET"]


STAGING = ("--evidence=staging", "-m", "invariant")
CHANGES = (*STAGING, "--notify=failure")


def test_runs_of_pytest_from_a_failed_alert_to_the_recovery(
    run: Run, tool: Tool, sink: HttpSink, tmp_path: Path, product: EmbeddedPostgres
) -> None:
    """Loud, recorded, kept and sent next time; then a control that fails, and one that is well again."""
    environment = {"TENANTPROOF_SLACK_WEBHOOK": sink.url, "TENANTPROOF_INVARIANT_PING_URL": sink.url}
    config = tmp_path / "tenantproof.toml"
    config.write_text(config.read_text() + "\n[tenantproof.notify]\ntries = 1\n")
    sink.status = 404
    loud = run(*STAGING, **environment)  # every run is told of, unless --notify says otherwise
    assert loud.returncode == 1
    assert loud.stdout.count("was not delivered") == 2
    public = next((tmp_path / "keys").glob("*.pub"))
    newest = bundle.bundles(tmp_path / "evidence" / "staging")[-1]
    found = [(d["channel"], "404" in d["problem"]) for d in deliveries(newest, keys.read_public(public))]
    assert found == [("Slack", True), ("dead-man's ping", True)]
    verified = tool("verify", "--key", str(public), "--chain", "evidence/staging")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert verified.stdout.count("an alert was not delivered: ") == 2
    kept = [path.read_text("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not any("services/T0/B0/secret" in text for text in [loud.stdout, loud.stderr, *kept])
    methods(sink)
    sink.status = 200
    nullable = "ALTER TABLE units ALTER tenant_id {} NOT NULL"
    with psycopg.connect(product.dsn(), autocommit=True) as connection:
        connection.execute(nullable.format("DROP").encode())
        try:
            assert run(*CHANGES, **environment).returncode == 1
        finally:
            connection.execute(nullable.format("SET").encode())
    assert "public.units" in said(sink)
    assert methods(sink) == ["POST", "POST"]  # the one that waited, then the new one
    assert run(*CHANGES, **environment).returncode == 0
    assert "recovered" in said(sink)
    assert methods(sink) == ["POST", "GET"]
    away = run(*STAGING, **environment, TENANTPROOF_STAGING_DSN="postgresql://me:hunter2@127.0.0.1:1/app")
    assert away.returncode == 2
    assert "no evidence could be made" in said(sink)
    assert methods(sink) == ["POST"]


def report(**outcomes: str) -> dict[str, Any]:
    controls = [
        {
            "id": name,
            "severity": "high",
            "outcome": outcome.removeprefix("waived "),
            "reason": "",
            "waiver": {"owner": "x"} if outcome.startswith("waived") else None,
            "findings": [{"object": "public.a"}, {"object": "public.b"}, {"object": "public.a"}]
            if "failed" in outcome
            else [],
        }
        for name, outcome in outcomes.items()
    ]
    return {"target": {"name": "prod"}, "scope": {"expression": "canary"}, "controls": controls}


def test_a_cause_is_a_control_on_an_object() -> None:
    found = causes(report(TP1="failed", TP2="error", TP3="passed", TP4="waived failed", TP5="not_run"), proven=False)
    assert [(c.what, c.object) for c in found] == [("TP1", "public.a"), ("TP1", "public.b"), ("TP2", ""), ("TP5", "")]
    assert causes(report(TP3="passed"), proven=True) == ()
    [scope] = causes(report(TP3="passed"), proven=False)
    assert (scope.what, scope.object, scope.severity) == ("verdict", "canary", Severity.HIGH)


@pytest.mark.parametrize(
    ("what", "outcome", "is_settled"),
    [
        ("TP1", "passed", True),
        ("TP1", "failed", True),
        ("TP1", "waived failed", True),
        ("TP1", "error", False),
        ("TP1", "not_run", False),
        ("TP1", "not_applicable", False),
        ("TP2", "passed", False),
    ],
)
def test_only_what_a_run_established_is_settled(what: str, outcome: str, is_settled: bool) -> None:
    cause = Cause("prod", what, "public.a", Severity.HIGH)
    assert settled(report(TP1=outcome), "canary", cause, proven=True) is is_settled


def test_a_run_settles_its_own_job_and_scope_alone() -> None:
    for what, said, job, proven, expected in (
        ("run", "canary", "canary", False, True),
        ("run", "drill", "canary", True, False),
        ("verdict", "canary", "canary", True, True),
        ("verdict", "canary", "canary", False, False),
        ("verdict", "gate", "canary", True, False),
    ):
        cause = Cause("prod", what, said, Severity.HIGH)
        assert settled(report(), job, cause, proven=proven) is expected, (what, said)
