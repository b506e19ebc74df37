"""One alert for one cause, again after a time, a word when it is gone; and what fails is kept and sent later."""

import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.notify import PING_VARIABLE, SLACK_VARIABLE, SMTP_VARIABLE, NotifySettings
from pytest_tenantproof.errors import ConfigError
from pytest_tenantproof.model import Severity
from pytest_tenantproof.notify import (
    Alert,
    Cause,
    Change,
    Delivery,
    Desk,
    Level,
    MailNotifier,
    News,
    Notifier,
    Patience,
    PingNotifier,
    SlackNotifier,
    open_desk,
    worst,
)
from pytest_tenantproof.notify.files import outbox, read_open
from tests.notify.support import HttpSink, http_sink

HOUR = timedelta(hours=1)
ORPHANS = Cause("prod", "TP801", "public.messages.unit_id", Severity.CRITICAL)
IDLE = Cause("prod", "TP811", "pg_stat_activity", Severity.LOW)


class Watch:
    """A desk at a time of its own."""

    def __init__(self, folder: Path, *notifiers: Notifier, tries: int = 1) -> None:
        self.folder, self.notifiers, self.tries = folder, notifiers, tries
        self.now = datetime(2026, 11, 25, 3, tzinfo=UTC)

    def desk(self) -> Desk:
        patience = Patience(tries=self.tries, total_s=5, wait_s=0.01)
        return Desk(self.folder, self.notifiers, patience, now=lambda: self.now)

    def __call__(self, *red: Cause, looked: str = "TP801 TP811", **more: bool) -> tuple[Delivery, ...]:
        def alert(change: Change) -> Alert:
            level = Level.FAIL if red else Level.INFO
            title = f"{len(change.new)} new, {len(change.due)} due, {len(change.still)} still"
            facts = (("said", "postgresql://u:hunter2@db/x"),)
            return Alert("evidence", level, title, "text", "prod", "run-1", "", facts, worst(change.raised))

        return self.desk().tell(News("prod", red, lambda cause: cause.what in looked.split(), alert, **more))


def heads(sink: HttpSink) -> list[str]:
    """The titles that Slack got since the last call."""
    found = [payload["blocks"][0]["text"]["text"][2:] for _, _, payload in sink.requests if payload]
    sink.requests.clear()
    return found


@pytest.fixture
def watch(sink: HttpSink, tmp_path: Path) -> Watch:
    return Watch(tmp_path / "kept", SlackNotifier(sink.url))


def test_a_cause_is_told_once_and_again_after_a_day_and_when_it_is_gone(watch: Watch, sink: HttpSink) -> None:
    for hours, red, said in (
        (0, [ORPHANS], ["1 new, 0 due, 0 still"]),
        (1, [ORPHANS], []),
        (23, [ORPHANS], ["0 new, 1 due, 0 still"]),
        (1, [ORPHANS, IDLE], ["1 new, 0 due, 1 still"]),
        (1, [IDLE], ["prod: recovered"]),
        (1, [], ["prod: recovered"]),
        (1, [], []),
        (1, [IDLE], ["1 new, 0 due, 0 still"]),
    ):
        watch.now += HOUR * hours
        assert not any(delivery.problem for delivery in watch(*red))
        assert heads(sink) == said


def test_what_a_run_did_not_look_at_is_not_gone(watch: Watch, sink: HttpSink) -> None:
    watch(ORPHANS)
    heads(sink)
    watch(looked="TP811")
    assert heads(sink) == []
    watch.desk().tell(News("staging", (), lambda _: True, lambda _: Alert("x", Level.INFO, "x", "x")))
    assert heads(sink) == []
    watch(looked="TP801")
    assert heads(sink) == ["prod: recovered"]


def test_a_clock_that_was_set_back_silences_nothing(watch: Watch, sink: HttpSink) -> None:
    watch(ORPHANS)
    heads(sink)
    watch.now -= HOUR * 1000
    watch(ORPHANS)
    assert heads(sink) == ["0 new, 1 due, 0 still"]


def test_always_tells_every_run(watch: Watch, sink: HttpSink) -> None:
    for red, said in (([], "0 new, 0 due, 0 still"), ([ORPHANS], "1 new, 0 due, 0 still")):
        watch(*red, always=True)
        assert heads(sink) == [said]
    watch(ORPHANS, always=True)
    assert heads(sink) == ["0 new, 0 due, 1 still"]
    watch(always=True)
    assert heads(sink) == ["0 new, 0 due, 0 still"]


def test_severities_go_where_they_are_sent(tmp_path: Path, mailbox: Callable[..., Any], sink: HttpSink) -> None:
    box = mailbox()
    mail = MailNotifier(f"smtp://127.0.0.1:{box.port}", "a@x.example", ("b@x.example",), 5, ("critical",))
    watch = Watch(tmp_path, SlackNotifier(sink.url, 5, ("medium", "low")), mail)
    watch(IDLE)
    assert (len(heads(sink)), len(box.messages)) == (1, 0)
    watch(IDLE, ORPHANS)
    assert (len(heads(sink)), len(box.messages)) == (0, 1)
    watch()
    assert (len(heads(sink)), len(box.messages)) == (0, 2)
    assert "recovered" in box.messages[1]["Subject"]
    watch(always=True)
    assert (len(heads(sink)), len(box.messages)) == (0, 2)


def test_what_is_not_delivered_is_kept_and_sent_next_time_in_order(watch: Watch, sink: HttpSink) -> None:
    sink.status = 500
    [failed] = watch(ORPHANS)
    assert "status 500" in failed.problem
    assert len(sink.requests) == 1
    watch.now += HOUR
    [held, _] = watch()
    assert "Slack" in held.problem
    assert len(sink.requests) == 2  # one try of the old one; the new one waits behind it
    heads(sink)
    sink.status = 200
    watch.now += HOUR
    assert [delivery.problem for delivery in watch()] == ["", ""]
    assert "delayed since" in json.dumps(sink.requests[0])
    assert heads(sink) == ["1 new, 0 due, 0 still", "prod: recovered"]
    assert watch() == ()


def test_retry_after_holds_across_runs(watch: Watch, sink: HttpSink) -> None:
    sink.answers = [(429, {"Retry-After": "600"})]
    watch(ORPHANS)
    watch.now += timedelta(seconds=599)
    assert "held up" in watch(ORPHANS)[0].problem
    assert len(sink.requests) == 1
    watch.now += timedelta(seconds=1)
    assert [delivery.problem for delivery in watch(ORPHANS)] == [""]


def test_what_is_kept_is_private_and_holds_no_secret(watch: Watch, sink: HttpSink) -> None:
    sink.status = 404
    watch(ORPHANS)
    files = [path for path in watch.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ""}
    assert stat.S_IMODE(watch.folder.stat().st_mode) == 0o700
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for secret in ("secret", "127.0.0.1", "hunter2"):
            assert secret not in path.read_text(), path


def test_the_outbox_does_not_grow_with_the_runs(watch: Watch, sink: HttpSink) -> None:
    sink.status = 500
    for _ in range(5):
        watch(ORPHANS, always=True)
        watch.now += HOUR
    assert len(outbox(watch.folder)[0]) == 1
    watch.now += timedelta(days=8)
    problems = [delivery.problem for delivery in watch.desk().flush()]
    assert ["7 days" in problem for problem in problems] == [True]
    assert outbox(watch.folder) == ([], [])
    assert len(list(watch.folder.rglob("*.aside"))) == 1


def test_what_waits_does_not_hold_a_run_up(watch: Watch, sink: HttpSink) -> None:
    """A channel that takes each alert slowly gets some of them now, the others next time, and all in order."""
    sink.status = 404
    for number in range(5):
        watch.now += HOUR
        watch(Cause("prod", f"TP80{number}", "public.x", Severity.HIGH))
    heads(sink)
    sink.status, sink.delay = 200, 0.3
    waiting = len(outbox(watch.folder)[0])
    desk = watch.desk()
    desk.patience = Patience(total_s=0.7)
    sent = [delivery for delivery in desk.flush() if not delivery.problem]
    assert 1 <= len(sent) < waiting
    assert len(outbox(watch.folder)[0]) == waiting - len(sent)


def test_one_that_fails_does_not_keep_the_others_silent(
    tmp_path: Path, sink: HttpSink, mailbox: Callable[..., Any]
) -> None:
    sink.status = 500
    box = mailbox()
    mail = MailNotifier(f"smtp://127.0.0.1:{box.port}", "a@x.example", ("b@x.example",), 5)
    done = Watch(tmp_path, SlackNotifier(sink.url), mail)(ORPHANS)
    assert [(d.channel, bool(d.problem)) for d in done] == [("Slack", True), ("e-mail", False)]
    assert len(box.messages) == 1
    box.refuse = {"c@x.example": "550 no such user"}
    some = MailNotifier(f"smtp://127.0.0.1:{box.port}", "a@x.example", ("b@x.example", "c@x.example"), 5)
    partly = Watch(tmp_path / "2", some)
    assert "1 of 2" in partly(ORPHANS)[0].problem
    assert outbox(partly.folder) == ([], [])  # whoever got it does not get it again


def test_a_ping_is_sent_when_all_is_well_and_never_late(tmp_path: Path, sink: HttpSink) -> None:
    watch = Watch(tmp_path, PingNotifier(sink.url))
    sink.status = 500
    assert "ping" in watch(well=True)[0].problem
    assert outbox(tmp_path) == ([], [])
    sink.status = 200
    assert watch(ORPHANS) == ()
    assert [delivery.problem for delivery in watch(well=True)] == [""]
    assert [method for method, _, _ in sink.requests] == ["GET", "GET"]


def test_runs_at_the_same_time_tell_a_cause_once(watch: Watch, sink: HttpSink) -> None:
    with ThreadPoolExecutor(6) as pool:
        done = [told.result() for told in [pool.submit(watch, ORPHANS) for _ in range(6)]]
    assert sum(map(len, done)) == len(heads(sink)) == 1


def test_alerts_leave_though_nothing_can_be_kept(sink: HttpSink, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    watch = Watch(tmp_path / "taken", SlackNotifier(sink.url))
    for _ in range(2):
        problems = [delivery.problem for delivery in watch(ORPHANS)]
        assert ["cannot be kept" in problem for problem in problems] == [True, False]
        assert heads(sink) == ["1 new, 0 due, 0 still"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"open": [{"target": "prod"}]}', '{"open": 7}'])
def test_damaged_files_are_said_and_nothing_is_silenced(watch: Watch, sink: HttpSink, damage: str) -> None:
    watch(ORPHANS)
    heads(sink)
    (watch.folder / "open.json").write_text(damage)
    (watch.folder / "outbox" / "20260101T000000000000Z-x.json").write_text(damage)
    problems = [delivery.problem for delivery in watch(ORPHANS)]
    assert sum("is damaged" in problem for problem in problems) == 2
    assert heads(sink) == ["1 new, 0 due, 0 still"]
    assert ORPHANS.fingerprint in read_open(watch.folder)[0]


def test_what_waits_for_a_channel_that_is_gone_is_said(watch: Watch, sink: HttpSink) -> None:
    sink.status = 500
    watch(ORPHANS)
    watch.notifiers = (PingNotifier(sink.url),)
    assert "not configured" in watch(ORPHANS)[0].problem


def test_without_a_channel_nothing_is_kept(tmp_path: Path) -> None:
    assert Watch(tmp_path / "kept")(ORPHANS) == ()
    assert not (tmp_path / "kept").exists()


def test_the_configuration_makes_the_desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in (SLACK_VARIABLE, SMTP_VARIABLE, PING_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    given = NotifySettings(repeat_hours=2, tries=7, give_up_s=9, outbox_days=1, slack=("high",), folder="x")
    with http_sink() as sink:
        monkeypatch.setenv(PING_VARIABLE, sink.url)
        desk = open_desk(Settings(root=tmp_path, notify=given))
        assert (desk.folder, desk.repeat, desk.keep) == (tmp_path / "x", timedelta(hours=2), timedelta(days=1))
        assert (desk.patience.tries, desk.patience.total_s) == (7, 9)
        monkeypatch.setenv(SLACK_VARIABLE, sink.url)
        with pytest.raises(ConfigError, match="critical alerts to nobody"):
            open_desk(Settings(root=tmp_path, notify=given))


def test_fingerprints_tell_causes_apart() -> None:
    pairs = [
        ("a", "b", "c"),
        ("a", "bc", ""),
        ("ab", "", "c"),
        ("a", "b\n", "c"),
        ("a", "b", "\udc80"),
        ("a", "b", "�"),
    ]
    assert len({Cause(*parts, Severity.LOW).fingerprint for parts in pairs}) == len(pairs)
    assert ORPHANS.fingerprint == Cause("prod", "TP801", ORPHANS.object, Severity.LOW).fingerprint
