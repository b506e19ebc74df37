"""The one place that alerts leave from: what waited goes first, a cause is told once, what fails is kept."""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import NotifyError
from pytest_tenantproof.notify import files
from pytest_tenantproof.notify.alert import Alert, Level, Notifier
from pytest_tenantproof.notify.causes import Cause, Change, Open, compare, worst
from pytest_tenantproof.notify.deliver import Patience, deliver
from pytest_tenantproof.notify.send import open_notifiers

__all__ = ["Delivery", "Desk", "News", "open_desk"]

_LISTED = 8


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one alert on one channel; `problem` is "" when it arrived."""

    channel: str
    title: str
    at: datetime
    problem: str = ""
    remedy: str = ""

    @property
    def told(self) -> str:
        """The problem for a terminal."""
        return f"an alert was not delivered: {self.problem}" + (f" Remedy: {self.remedy}" if self.remedy else "")


@dataclass(frozen=True, slots=True)
class News:
    """What a run has to say. `red` are the causes it found, `settled` whether it established that another is gone,
    `alert` makes the message; with `always` one is sent though nothing changed. `well` feeds the dead-man's switch."""

    target: str
    red: tuple[Cause, ...]
    settled: Callable[[Cause], bool]
    alert: Callable[[Change], Alert]
    always: bool = False
    well: bool = False

    def gone(self, cause: Cause) -> bool:
        """No run says anything of another target's causes."""
        return cause.target == self.target and self.settled(cause)


@dataclass(slots=True)
class Desk:
    """Use it within `files.locked(folder)`, which `tell` and `flush` do."""

    folder: Path
    notifiers: tuple[Notifier, ...]
    patience: Patience = field(default_factory=Patience)
    repeat: timedelta = timedelta(hours=24)
    keep: timedelta = timedelta(days=7)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    done: list[Delivery] = field(default_factory=list)
    _held_up: dict[str, datetime] = field(default_factory=dict)

    def tell(self, news: News) -> tuple[Delivery, ...]:
        """Sends what is due. Every delivery, and whatever could not be delivered or kept."""
        if not self.notifiers:
            return ()
        told = False
        try:
            with files.locked(self.folder):
                self._flush()
                held, problem = files.read_open(self.folder)
                self._say(problem)
                change = compare(held, news.red, news.gone, self.now(), self.repeat)
                self._announce(news, change)
                told = True
                files.write_open(self.folder, self._after(held, change))
        except NotifyError as error:
            self._say(error.message, error.remedy)
            if not told:  # Whoever cannot remember what was told tells it every time.
                self._announce(news, Change(new=news.red))
        return tuple(self.done)

    def flush(self) -> tuple[Delivery, ...]:
        """Sends what waits in the outbox, and nothing else."""
        with files.locked(self.folder):
            self._flush()
        return tuple(self.done)

    def _announce(self, news: News, change: Change) -> None:
        alert = news.alert(change)
        if change.raised or news.always:
            self._send(alert, _key(*(cause.fingerprint for cause in change.raised or news.red), news.target))
        if change.gone and not (news.always and not news.red):
            self._send(_recovered(news.target, alert.run, change.gone), _key(*_fingerprints(change.gone), "gone"))
        if news.well:
            self._send(replace(alert, level=Level.OK, severity=None), "")

    def _after(self, held: dict[str, Open], change: Change) -> dict[str, Open]:
        now, gone = self.now(), set(_fingerprints(change.gone))
        kept = {key: entry for key, entry in held.items() if key not in gone}
        kept |= {cause.fingerprint: Open(cause, now, now) for cause in change.new}
        kept |= {cause.fingerprint: replace(held[cause.fingerprint], told=now) for cause in change.due}
        return kept

    def _send(self, alert: Alert, key: str) -> None:
        """To each that wants it, whatever becomes of the others. An old ping would feign health: none is kept."""
        for notifier in (n for n in self.notifiers if n.wants(alert)):
            error = self._attempt(notifier, alert)
            self._done(notifier.name, alert, error)
            if error and alert.level is not Level.OK and not error.partial:
                self._keep(notifier.name, alert, key, error)

    def _attempt(self, notifier: Notifier, alert: Alert) -> NotifyError | None:
        if notifier.name in self._held_up:
            return NotifyError(f"{notifier.name} is held up, the alert waits.")
        try:
            deliver(notifier, alert, self.patience)
        except NotifyError as error:
            return error
        return None

    def _keep(self, channel: str, alert: Alert, key: str, error: NotifyError) -> None:
        now = self.now()
        until = max(now + timedelta(seconds=error.retry_after), self._held_up.get(channel, now))
        if error.transient:
            self._held_up[channel] = until
        try:
            files.put(self.folder, files.Waiting(channel, alert, _key(channel, key), now, until, error.message))
        except OSError as unkept:
            self._say(f"the alert for {channel} could not be kept either: {unkept.strerror}.")

    def _flush(self) -> None:
        """One try each, oldest first, for as long as one delivery may take; what is left waits for the next run, and so
        does what a channel that does not answer was to get."""
        ends = time.monotonic() + self.patience.total_s
        waiting, problems = files.outbox(self.folder)
        for problem in problems:
            self._say(problem)
        channels = {notifier.name: notifier for notifier in self.notifiers}
        for path, entry in waiting:
            if self.now() - entry.since > self.keep:
                self._say(files.set_aside(path, f"was not delivered to {entry.channel} in {self.keep.days} days"))
            elif entry.channel not in channels:
                self._say(f"an alert waits for {entry.channel}, which is not configured.")
            elif entry.channel in self._held_up or self.now() < entry.not_before or time.monotonic() > ends:
                self._held_up.setdefault(entry.channel, entry.not_before)
                self._done(entry.channel, entry.alert, NotifyError(f"{entry.channel} is held up, the alert waits."))
            else:
                self._again(path, entry, channels[entry.channel])

    def _again(self, path: Path, entry: files.Waiting, notifier: Notifier) -> None:
        late = replace(entry.alert, facts=(*entry.alert.facts, ("delayed since", f"{entry.since:%Y-%m-%d %H:%M} UTC")))
        try:
            deliver(notifier, late, replace(self.patience, tries=1))
        except NotifyError as error:
            self._done(notifier.name, entry.alert, error)
            if error.partial:
                files.remove(path)
            elif error.transient:
                self._held_up[notifier.name] = self.now() + timedelta(seconds=error.retry_after)
            return
        files.remove(path)
        self._done(notifier.name, late)

    def _done(self, channel: str, alert: Alert, error: NotifyError | None = None) -> None:
        said = (error.message, error.remedy) if error else ("", "")
        self.done.append(Delivery(channel, alert.title, self.now(), *said))

    def _say(self, problem: str, remedy: str = "") -> None:
        if problem:
            self.done.append(Delivery("outbox", "", self.now(), problem, remedy))


def open_desk(settings: Settings, job: str = "") -> Desk:
    """The desk that the configuration describes. Raises ConfigError for a malformed channel."""
    given = settings.notify
    return Desk(
        settings.root / given.folder,
        open_notifiers(settings, job),
        Patience(given.tries, given.give_up_s),
        timedelta(hours=given.repeat_hours),
        timedelta(days=given.outbox_days),
    )


def _recovered(target: str, run: str, gone: tuple[Open, ...]) -> Alert:
    facts = [
        (entry.cause.what, f"{entry.cause.object or 'all'} (since {entry.since:%Y-%m-%d %H:%M} UTC)")
        for entry in gone[:_LISTED]
    ]
    facts += [("more", f"{len(gone) - _LISTED} causes")] if len(gone) > _LISTED else []
    text = f"{len(gone)} cause(s) of earlier alerts are gone."
    severity = worst(entry.cause for entry in gone)
    return Alert("recovery", Level.INFO, f"{target}: recovered", text, target, run, "", tuple(facts), severity)


def _fingerprints(entries: Iterable[Open]) -> list[str]:
    return [entry.cause.fingerprint for entry in entries]


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(sorted(parts)).encode("utf-8", "replace")).hexdigest()[:16]
