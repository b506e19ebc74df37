"""One alert to one notifier: tried again while that may help, and never for longer than it may take."""

import random
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

from pytest_tenantproof.errors import NotifyError
from pytest_tenantproof.notify.alert import Alert, Notifier

__all__ = ["Patience", "deliver"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and for how many seconds in all, waits included. The first wait is `wait_s`, each later one twice
    the one before; a server's Retry-After goes before it."""

    tries: int = 4
    total_s: float = 60.0
    wait_s: float = 1.0


def deliver(notifier: Notifier, alert: Alert, patience: Patience) -> None:
    """Delivers, or raises the NotifyError of the last try."""
    ends = time.monotonic() + patience.total_s
    for attempt in range(1, max(patience.tries, 1) + 1):
        try:
            _within(max(ends - time.monotonic(), 0.1), notifier, alert)
        except NotifyError as error:
            wait = max(error.retry_after, patience.wait_s * 2 ** (attempt - 1) * random.uniform(1.0, 1.25))  # noqa: S311 - no secret
            if not error.transient or attempt >= patience.tries or time.monotonic() + wait >= ends:
                raise
            time.sleep(wait)
        else:
            return


def _within(seconds: float, notifier: Notifier, alert: Alert) -> None:
    """A server that sends a byte now and then never runs into a socket's timeout: this one ends it all the same."""
    sent: Future[None] = Future()

    def send() -> None:
        try:
            notifier.send(alert)
        except BaseException as error:  # noqa: BLE001 - it is raised where the alert is waited for
            sent.set_exception(error)
        else:
            sent.set_result(None)

    threading.Thread(target=send, daemon=True, name=f"alert to {notifier.name}").start()
    try:
        sent.result(seconds)
    except TimeoutError:
        text = f"{notifier.name} took longer than {seconds:.0f} s."
        remedy = "see whether its server is well, or raise give_up_s in [tenantproof.notify]."
        raise NotifyError(text, remedy=remedy, transient=True) from None
