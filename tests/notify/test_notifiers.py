"""What each way of telling sends to a real server, and what it says when that fails."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.notify import PING_VARIABLE, SLACK_VARIABLE, SMTP_VARIABLE, NotifySettings
from pytest_tenantproof.errors import ConfigError, NotifyError
from pytest_tenantproof.notify import (
    Alert,
    Level,
    MailNotifier,
    PingNotifier,
    SlackNotifier,
    open_notifiers,
)
from pytest_tenantproof.notify.slack import message
from tests.notify.support import HttpSink

ALERT = Alert(
    "upload",
    Level.FAIL,
    "Backup of prod: upload failed",
    "s3://bucket/x: <!channel> & 500",
    "prod",
    "20261124T020000Z-0a1b2c3d",
    "check the store",
    (("archives", "12"),),
)
OK = Alert("backup", Level.OK, "Backup of prod done", "all is well", "prod")


def test_slack_gets_what_happened_and_what_to_do(sink: HttpSink) -> None:
    SlackNotifier(sink.url).send(ALERT)
    [(method, path, payload)] = sink.requests
    assert (method, path) == ("POST", "/services/T0/B0/secret")
    text = json.dumps(payload, ensure_ascii=False)
    for part in (ALERT.title, ALERT.run, "check the store", "archives", "12"):
        assert part in text
    assert "<!channel>" not in text
    assert "&lt;!channel&gt; &amp; 500" in text


def text(limit: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), max_size=limit) | st.integers(0, limit).map(lambda n: "<&" * n)


@settings(max_examples=60, deadline=None)
@given(text(400), text(5000), text(5000), st.lists(st.tuples(text(60), text(3000)), max_size=40))
def test_slack_messages_stay_within_block_kit(title: str, said: str, remedy: str, facts: list[tuple[str, str]]) -> None:
    sent = message(Alert("backup", Level.WARN, title, said, "t", "r", remedy, tuple(facts)))
    assert 2 <= len(sent["blocks"]) <= 50
    assert len(sent["blocks"][0]["text"]["text"]) <= 150
    for block in sent["blocks"][1:]:
        parts: list[dict[str, Any]] = block["fields"] if "fields" in block else [block["text"]]
        limit = 2000 if "fields" in block else 3000
        assert 1 <= len(parts) <= 10
        for part in parts:
            assert 0 < len(part["text"]) <= limit
            bare = part["text"].replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
            assert not set(bare) & set("<>&")


@pytest.mark.parametrize("status", [400, 403, 404, 410, 429, 500, 302, 200])
def test_what_slack_refuses_is_an_error_without_the_webhook(sink: HttpSink, status: int) -> None:
    sink.status, sink.body = status, b"no_service"
    with pytest.raises(NotifyError, match=str(status)) as caught:
        SlackNotifier(sink.url).send(ALERT)
    assert "secret" not in str(caught.value) + repr(SlackNotifier(sink.url))
    assert caught.value.remedy
    assert len(sink.requests) == 1


def test_no_server_and_a_slow_one_are_errors_without_the_address(sink: HttpSink) -> None:
    sink.hold = threading.Event()
    for url in (sink.url, "http://127.0.0.1:1/services/secret"):
        for notifier in (SlackNotifier(url, 0.2), PingNotifier(url, 0.2)):
            with pytest.raises(NotifyError, match="could not be reached") as caught:
                notifier.send(ALERT)
            chained = f"{caught.value} {caught.value.__cause__}"
            assert "secret" not in chained
            assert caught.value.__suppress_context__


def test_a_server_without_tls_or_trust_is_not_used(sink: HttpSink) -> None:
    with pytest.raises(NotifyError, match="SSLError"):
        SlackNotifier(sink.url.replace("http:", "https:")).send(ALERT)
    for url in ("http://hooks.example.com/x", "ftp://hooks.example.com/x", "hooks.example.com/x", "https:///x"):
        for kind in (SlackNotifier, PingNotifier):
            with pytest.raises(ConfigError, match="is not an https"):
                kind(url)


def test_ping_tells_of_success_alone(sink: HttpSink) -> None:
    notifier = PingNotifier(sink.url)
    assert not notifier.wants(ALERT)
    assert notifier.wants(OK)
    notifier.send(OK)
    assert [(m, p) for m, p, _ in sink.requests] == [("GET", "/services/T0/B0/secret")]
    sink.status = 404
    with pytest.raises(NotifyError, match="404"):
        notifier.send(OK)


def mailer(url: str, *recipients: str) -> MailNotifier:
    return MailNotifier(url, "proof@example.com", recipients or ("oncall@example.com",), 5)


def test_mail_is_delivered_with_everything_in_it(mailbox: Callable[..., Any]) -> None:
    box = mailbox()
    mailer(f"smtp://me:right@127.0.0.1:{box.port}", "a@example.com", "b@example.com").send(ALERT)
    [mail] = box.messages
    assert mail["Subject"] == "[tenantproof] FAIL: Backup of prod: upload failed"
    assert mail["To"] == "a@example.com, b@example.com"
    body = mail.get_content()
    for part in (ALERT.text, "what to do: check the store", ALERT.run, "archives: 12"):
        assert part in body


def test_a_title_cannot_forge_a_header(mailbox: Callable[..., Any]) -> None:
    box = mailbox()
    evil = Alert("backup", Level.FAIL, "x\r\nBcc: all@example.com\r\n\r\nhello", "password=hunter2")
    mailer(f"smtp://127.0.0.1:{box.port}").send(evil)
    [mail] = box.messages
    assert mail["Bcc"] is None
    assert "hunter2" not in mail.as_string()


def test_what_a_mail_server_refuses_is_an_error_without_secrets(mailbox: Callable[..., Any]) -> None:
    box = mailbox()
    url = f"smtp://me:wrong@127.0.0.1:{box.port}"
    with pytest.raises(NotifyError, match="SMTPAuthenticationError 535") as caught:
        mailer(url).send(ALERT)
    assert "wrong" not in str(caught.value) + repr(mailer(url))
    box.refuse = {"b@example.com": "550 no such user"}
    with pytest.raises(NotifyError, match="1 of 2"):
        mailer(f"smtp://127.0.0.1:{box.port}", "a@example.com", "b@example.com").send(ALERT)
    with pytest.raises(NotifyError, match="SMTPRecipientsRefused"):
        mailer(f"smtp://127.0.0.1:{box.port}", "b@example.com").send(ALERT)
    with pytest.raises(NotifyError, match="ConnectionRefusedError"):
        mailer("smtp://127.0.0.1:1").send(ALERT)


def test_mail_over_tls_needs_a_trusted_certificate(
    mailbox: Callable[..., Any], certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = mailbox(certificate, implicit=True)
    url = f"smtps://me:right@127.0.0.1:{box.port}"
    with pytest.raises(NotifyError, match="SSLCertVerificationError"):
        mailer(url).send(ALERT)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    mailer(url).send(ALERT)
    assert len(box.messages) == 1


def test_mail_to_another_host_is_never_in_the_clear(
    mailbox: Callable[..., Any], certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, safe = mailbox(host="127.0.0.2"), mailbox(certificate, host="127.0.0.2")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with pytest.raises(NotifyError, match="SMTPNotSupportedError"):
        mailer(f"smtp://me:right@127.0.0.2:{bare.port}").send(ALERT)
    mailer(f"smtp://me:right@127.0.0.2:{safe.port}").send(ALERT)
    assert (len(bare.messages), len(safe.messages)) == (0, 1)


@pytest.mark.parametrize("url", ["http://host", "smtp://", "mail.example.com", "smtp:///x"])
def test_malformed_mail_settings_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=SMTP_VARIABLE):
        mailer(url)
    with pytest.raises(ConfigError, match="email_to"):
        MailNotifier("smtp://127.0.0.1", "a@example.com", ())


def test_the_environment_says_who_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (SLACK_VARIABLE, SMTP_VARIABLE, PING_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    given = Settings(notify=NotifySettings("a@example.com", ("b@example.com",)))
    assert open_notifiers(given) == ()
    monkeypatch.setenv(SLACK_VARIABLE, "https://hooks.example.com/s")
    monkeypatch.setenv(SMTP_VARIABLE, "smtp://mail.example.com")
    monkeypatch.setenv(PING_VARIABLE, "https://ping.example.com/shared")
    assert [n.name for n in open_notifiers(given)] == ["Slack", "e-mail", "dead-man's ping"]
    monkeypatch.setenv("TENANTPROOF_BACKUP_PING_URL", "https://ping.example.com/backup")
    [own] = [n for n in open_notifiers(given, "backup") if isinstance(n, PingNotifier)]
    assert own.url.endswith("/backup")
    [shared] = [n for n in open_notifiers(given, "canary") if isinstance(n, PingNotifier)]
    assert shared.url.endswith("/shared")
