"""Who is configured."""

import os

from pytest_tenantproof.config import Settings, environment_name
from pytest_tenantproof.config.notify import PING_VARIABLE, SLACK_VARIABLE, SMTP_VARIABLE
from pytest_tenantproof.errors import ConfigError
from pytest_tenantproof.notify.alert import Notifier
from pytest_tenantproof.notify.mail import MailNotifier
from pytest_tenantproof.notify.ping import PingNotifier
from pytest_tenantproof.notify.slack import SlackNotifier

__all__ = ["open_notifiers", "ping_variables"]


def open_notifiers(settings: Settings, job: str = "") -> tuple[Notifier, ...]:
    """The notifiers that the environment names; none is no error. Raises ConfigError for a malformed one, and where
    critical alerts would reach nobody.

    A job ("backup") may have a ping of its own, TENANTPROOF_BACKUP_PING_URL: one that is shared would hide
    that one of the jobs stopped.
    """
    given, timeout = settings.notify, settings.notify.timeout_s
    people: list[SlackNotifier | MailNotifier] = []
    if webhook := _secret(SLACK_VARIABLE):
        people.append(SlackNotifier(webhook, timeout, given.slack))
    if smtp := _secret(SMTP_VARIABLE):
        people.append(MailNotifier(smtp, given.email_from, given.email_to, timeout, given.email))
    if people and not any("critical" in channel.routes for channel in people):
        raise ConfigError(
            "[tenantproof.notify] sends critical alerts to nobody.",
            remedy='add "critical" to slack or email, for a channel whose address is set.',
        )
    ping = (job and _secret(environment_name(job, "PING_URL"))) or _secret(PING_VARIABLE)
    return (*people, PingNotifier(ping, timeout)) if ping else tuple(people)


def ping_variables() -> tuple[str, ...]:
    """Variables of the environment that hold a ping URL: the shared one and those of single jobs."""
    named = (n for n in os.environ if n.startswith("TENANTPROOF_") and n.endswith("PING_URL") and _secret(n))
    return tuple(sorted(named))


def _secret(variable: str) -> str:
    return os.environ.get(variable, "").strip()
