"""Who is configured, and an alert to all of them."""

import os
from collections.abc import Iterable

from pytest_tenantproof.config import Settings, environment_name
from pytest_tenantproof.config.notify import PING_VARIABLE, SLACK_VARIABLE, SMTP_VARIABLE
from pytest_tenantproof.errors import NotifyError
from pytest_tenantproof.notify.alert import Alert, Notifier
from pytest_tenantproof.notify.mail import MailNotifier
from pytest_tenantproof.notify.ping import PingNotifier
from pytest_tenantproof.notify.slack import SlackNotifier

__all__ = ["open_notifiers", "send_all"]


def open_notifiers(settings: Settings, job: str = "") -> tuple[Notifier, ...]:
    """The notifiers that the environment names; none is no error. Raises ConfigError for a malformed one.

    A job ("backup") may have a ping of its own, TENANTPROOF_BACKUP_PING_URL: one that is shared would hide
    that one of the jobs stopped.
    """
    given, timeout = settings.notify, settings.notify.timeout_s
    found: list[Notifier] = []
    if webhook := _secret(SLACK_VARIABLE):
        found.append(SlackNotifier(webhook, timeout))
    if smtp := _secret(SMTP_VARIABLE):
        found.append(MailNotifier(smtp, given.email_from, given.email_to, timeout))
    ping = (job and _secret(environment_name(job, "PING_URL"))) or _secret(PING_VARIABLE)
    if ping:
        found.append(PingNotifier(ping, timeout))
    return tuple(found)


def _secret(variable: str) -> str:
    return os.environ.get(variable, "").strip()


def send_all(notifiers: Iterable[Notifier], alert: Alert) -> int:
    """Sends to each that wants it, whatever becomes of the others; returns how many got it.

    Raises NotifyError that names each that failed.
    """
    delivered, failed = 0, []
    for notifier in (n for n in notifiers if n.wants(alert)):
        try:
            notifier.send(alert)
            delivered += 1
        except NotifyError as error:
            failed.append(error)
    if failed:
        told = "; ".join(error.message for error in failed)
        raise NotifyError(f"an alert was not delivered: {told}", remedy=" ".join(e.remedy for e in failed))
    return delivered
