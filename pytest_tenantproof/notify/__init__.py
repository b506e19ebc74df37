"""Alerts: to Slack, by e-mail, and a dead-man's ping. One Protocol, `Notifier`."""

from pytest_tenantproof.notify.alert import Alert, Level, Notifier
from pytest_tenantproof.notify.mail import MailNotifier
from pytest_tenantproof.notify.ping import PingNotifier
from pytest_tenantproof.notify.send import open_notifiers, send_all
from pytest_tenantproof.notify.slack import SlackNotifier

__all__ = [
    "Alert",
    "Level",
    "MailNotifier",
    "Notifier",
    "PingNotifier",
    "SlackNotifier",
    "open_notifiers",
    "send_all",
]
