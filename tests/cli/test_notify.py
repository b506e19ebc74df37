"""`tenantproof notify`: tries the set-up of each channel, and sends what waits."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_tenantproof.cli import main
from pytest_tenantproof.config import load_settings
from pytest_tenantproof.config.notify import SLACK_VARIABLE
from pytest_tenantproof.model import Severity
from pytest_tenantproof.notify import Alert, Cause, Level, News, open_desk
from tests.notify.support import HttpSink, http_sink

SMTP = "smtp://me:hunter2@127.0.0.1:1"


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HttpSink]:
    """A server, in a folder of a product that knows no channel yet."""
    for variable in [name for name in os.environ if name.startswith("TENANTPROOF_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    text = '[tenantproof.notify]\nemail_from = "a@x.example"\nemail_to = ["b@x.example"]\ntries = 1\n'
    (tmp_path / "tenantproof.toml").write_text(text)
    with http_sink() as running:
        yield running


def test_each_channel_is_tried_and_told_apart(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SLACK_VARIABLE, sink.url)
    monkeypatch.setenv("TENANTPROOF_PING_URL", sink.url)
    monkeypatch.setenv("TENANTPROOF_CANARY_PING_URL", sink.url + "/canary")
    assert main(["notify", "--test"]) == 0
    assert capsys.readouterr().out.count("delivered") == 3
    assert [(m, p.rpartition("/")[2]) for m, p, _ in sink.requests] == [
        ("POST", "secret"),
        ("GET", "canary"),
        ("GET", "secret"),
    ]
    monkeypatch.setenv("TENANTPROOF_SMTP_URL", SMTP)
    sink.status = 404
    assert main(["notify", "--test", "--json"]) == 1
    said = capsys.readouterr().out
    found = json.loads(said)["channels"]
    assert ("404" in found["Slack"], "ConnectionRefused" in found["e-mail"]) == (True, True)
    assert not any(secret in said for secret in ("secret", "hunter2", sink.url))


def test_no_channel_is_no_success(sink: HttpSink, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify", "--test"]) == 2
    assert "no channel is configured" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["http://hooks.example.com/x", "https://[", "https://h:x/", "hooks"])
def test_a_malformed_address_is_a_usage_error_that_does_not_repeat_it(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv(SLACK_VARIABLE, value)
    assert main(["notify", "--test"]) == 4
    said = capsys.readouterr().err
    assert SLACK_VARIABLE in said
    assert value not in said


def test_what_waits_is_sent_and_what_is_open_is_listed(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SLACK_VARIABLE, sink.url)
    assert main(["notify"]) == 0
    assert "nothing waits" in capsys.readouterr().out
    sink.status = 404
    cause = Cause("prod", "TP801", "public.messages", Severity.HIGH)
    alert = Alert("evidence", Level.FAIL, "prod: failed", "text", "prod", severity=Severity.HIGH)
    desk = open_desk(load_settings(Path("tenantproof.toml")))
    assert desk.tell(News("prod", (cause,), lambda _: False, lambda _: alert))[0].problem
    assert main(["notify"]) == 1
    sink.status = 200
    assert main(["notify", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["sent"], said["open"], said["problems"]) == (
        ["prod: failed"],
        [["prod", "TP801", "public.messages"]],
        [],
    )
