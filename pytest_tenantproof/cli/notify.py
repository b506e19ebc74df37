"""notify: tries the set-up of each channel, or sends what waits."""

import argparse
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_tenantproof.cli.base import Answer, Verb, settings_of

if TYPE_CHECKING:
    from pytest_tenantproof.config import Settings
    from pytest_tenantproof.notify import Cause, Notifier

__all__ = ["VERBS"]


def _notify(options: argparse.Namespace) -> Answer:
    settings = settings_of(options)
    return _test(settings) if options.test else _flush(settings)


def _test(settings: "Settings") -> Answer:
    """A message over every channel, once each. 0: all arrived; 1: one did not; 2: none is configured."""
    from pytest_tenantproof.errors import NotifyError
    from pytest_tenantproof.notify import Alert, Level, Patience, deliver
    from pytest_tenantproof.notify.files import locked

    when, folder = datetime.now(UTC), settings.root / settings.notify.folder
    text = f"Sent by `tenantproof notify --test` at {when:%Y-%m-%d %H:%M} UTC. Alerts arrive here; nothing is wrong."
    alert = Alert("test", Level.INFO, "tenantproof: test of alerts", text)
    found = {}
    for where, notifier in _channels(settings):
        try:
            deliver(notifier, alert, Patience(1, settings.notify.give_up_s))
            found[where] = ""
        except NotifyError as error:
            found[where] = str(error)
    with locked(folder):
        lines = [f"{where}: {problem or 'delivered'}" for where, problem in found.items()]
    if not found:
        return 2, {"channels": {}}, ["no channel is configured: set the variables of .env.example (Alerts)."]
    return int(any(found.values())), {"channels": found}, lines


def _channels(settings: "Settings") -> "list[tuple[str, Notifier]]":
    """By name: those for people, and the ping of every job that has one."""
    from pytest_tenantproof.notify import PingNotifier, open_notifiers, ping_variables

    people = [(n.name, n) for n in open_notifiers(settings) if not isinstance(n, PingNotifier)]
    pings = ((name, PingNotifier(os.environ[name].strip(), settings.notify.timeout_s)) for name in ping_variables())
    return [*people, *((f"{ping.name} ({name})", ping) for name, ping in pings)]


def _flush(settings: "Settings") -> Answer:
    """Sends what waits in the outbox. 1: something still waits."""
    from pytest_tenantproof.notify import open_desk
    from pytest_tenantproof.notify.files import read_open

    desk = open_desk(settings)
    done = desk.flush()
    held, _ = read_open(desk.folder)
    lines = [d.told if d.problem else f"{d.channel}: sent {d.title}" for d in done]
    lines += [f"open since {o.since:%Y-%m-%d %H:%M}: {' '.join(_named(o.cause))}" for o in held.values()]
    answer = {
        "sent": [d.title for d in done if not d.problem],
        "problems": [d.told for d in done if d.problem],
        "open": [list(_named(o.cause)) for o in held.values()],
    }
    return int(any(d.problem for d in done)), answer, lines or ["nothing waits, and nothing is open"]


def _named(cause: "Cause") -> tuple[str, ...]:
    return tuple(filter(None, (cause.target, cause.what, cause.object)))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="another tenantproof.toml")
    parser.add_argument("--test", action="store_true", help="send a test message over each configured channel")


VERBS = {
    "notify": Verb(
        "send what waits in the outbox, and list what is open; --test tries each channel",
        "tenantproof notify --test",
        _notify,
        _arguments,
    ),
}
