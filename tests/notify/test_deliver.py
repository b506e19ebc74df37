"""Trying again: as often as may help, as late as the server asks, and never for longer than allowed."""

import re
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tenantproof.errors import NotifyError
from pytest_tenantproof.notify import Alert, Level, MailNotifier, Patience, SlackNotifier, deliver
from pytest_tenantproof.notify.http import LONGEST_WAIT, seconds_of
from tests.notify.support import HttpSink, http_sink

ALERT = Alert("evidence", Level.FAIL, "prod: failed", "1 of 9 controls", "prod")
QUICK = Patience(tries=3, total_s=5.0, wait_s=0.01)


def test_what_may_pass_is_tried_again(sink: HttpSink) -> None:
    sink.answers = [(500, {}), (429, {})]
    deliver(SlackNotifier(sink.url), ALERT, QUICK)
    assert len(sink.requests) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_a_wrong_webhook_is_tried_once(sink: HttpSink, status: int) -> None:
    sink.status = status
    with pytest.raises(NotifyError, match=str(status)):
        deliver(SlackNotifier(sink.url), ALERT, QUICK)
    assert len(sink.requests) == 1


def test_a_server_that_stays_broken_is_left_after_so_many_tries(sink: HttpSink) -> None:
    sink.status = 503
    with pytest.raises(NotifyError, match="503"):
        deliver(SlackNotifier(sink.url), ALERT, QUICK)
    assert len(sink.requests) == QUICK.tries


def test_retry_after_is_waited_for(sink: HttpSink) -> None:
    sink.answers = [(429, {"Retry-After": "1"})]
    began = time.monotonic()
    deliver(SlackNotifier(sink.url), ALERT, QUICK)
    assert time.monotonic() - began >= 1.0
    assert len(sink.requests) == 2


def test_a_longer_wait_than_allowed_is_not_begun(sink: HttpSink) -> None:
    sink.answers = [(429, {"Retry-After": "120"})]
    began = time.monotonic()
    with pytest.raises(NotifyError) as caught:
        deliver(SlackNotifier(sink.url), ALERT, QUICK)
    assert time.monotonic() - began < 1.0
    assert (caught.value.transient, caught.value.retry_after, len(sink.requests)) == (True, 120.0, 1)


def test_a_server_that_answers_a_byte_at_a_time_is_left(sink: HttpSink) -> None:
    """Each byte is within the socket's timeout; the whole would never end."""
    sink.drip = threading.Event()
    began = time.monotonic()
    with pytest.raises(NotifyError, match="longer than"):
        deliver(SlackNotifier(sink.url, 5.0), ALERT, Patience(total_s=0.5))
    assert time.monotonic() - began < 2.0


def test_a_certificate_that_nobody_trusts_is_refused_once(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_sink(certificate) as sink:
        began = time.monotonic()
        with pytest.raises(NotifyError, match="SSLError") as caught:
            deliver(SlackNotifier(sink.url), ALERT, Patience(wait_s=5.0))
        assert time.monotonic() - began < 4.0  # no second try: it would not help
        assert "secret" not in str(caught.value)
        assert sink.requests == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        deliver(SlackNotifier(sink.url), ALERT, QUICK)
        assert len(sink.requests) == 1


def mailer(port: int, timeout: float = 5.0) -> MailNotifier:
    return MailNotifier(f"smtp://127.0.0.1:{port}", "a@x.example", ("b@x.example",), timeout)


def test_a_mail_server_that_says_later_is_asked_again(mailbox: Callable[..., Any]) -> None:
    box = mailbox()
    box.busy = 2
    deliver(mailer(box.port), ALERT, QUICK)
    assert len(box.messages) == 1
    box.refuse = {"b@x.example": "550 no such user"}
    with pytest.raises(NotifyError, match="SMTPRecipientsRefused") as caught:
        deliver(mailer(box.port), ALERT, Patience(wait_s=60))
    assert not caught.value.transient


def test_a_mail_server_that_never_greets_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(NotifyError, match="SMTPServerDisconnected") as caught:
            deliver(mailer(silent.getsockname()[1], 0.2), ALERT, Patience(tries=1))
        assert caught.value.transient


def test_what_no_mail_can_hold_is_an_error_without_secrets(mailbox: Callable[..., Any]) -> None:
    """smtplib and the e-mail package quote what they could not encode."""
    box = mailbox()
    for sender, password in (("a@x.example\r\nBcc: all@x.example", "right"), ("a@x.example", "hunt\u00e9r2")):
        url = f"smtp://me:{quote(password)}@127.0.0.1:{box.port}"
        with pytest.raises(NotifyError) as caught:
            deliver(MailNotifier(url, sender, ("b@x.example",), 5.0), ALERT, QUICK)
        assert not {"hunt", "Bcc"} & set(re.findall(r"hunt|Bcc", f"{caught.value} {caught.value.__cause__}"))
    assert box.messages == []


def test_an_endless_answer_is_not_read_to_its_end(sink: HttpSink) -> None:
    sink.body = b"x" * 50_000_000
    with pytest.raises(NotifyError, match="status 200"):
        deliver(SlackNotifier(sink.url), ALERT, Patience(tries=1))


NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("", 0.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("nan", 0.0),
        ("1e9", 0.0),
        ("9" * 400, LONGEST_WAIT),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=900), usegmt=True), LONGEST_WAIT),
        ("Wed, 25 Nov 2026 00:01:30 -0000", 90.0),
    ],
)
def test_seconds_of_retry_after(header: str, seconds: float) -> None:
    assert seconds_of(header, NOW) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_is_an_error_or_endless(header: str) -> None:
    assert 0.0 <= seconds_of(header) <= LONGEST_WAIT
