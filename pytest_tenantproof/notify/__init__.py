"""Alerts: to Slack, by e-mail, and a dead-man's ping. One Protocol, `Notifier`; one place they leave from, `Desk`."""

from pytest_tenantproof.notify.alert import Alert, Level, Notifier
from pytest_tenantproof.notify.causes import Cause, Change, Open, compare, worst
from pytest_tenantproof.notify.deliver import Patience, deliver
from pytest_tenantproof.notify.desk import Delivery, Desk, News, open_desk
from pytest_tenantproof.notify.mail import MailNotifier
from pytest_tenantproof.notify.ping import PingNotifier
from pytest_tenantproof.notify.send import open_notifiers, ping_variables
from pytest_tenantproof.notify.slack import SlackNotifier

__all__ = [
    "Alert",
    "Cause",
    "Change",
    "Delivery",
    "Desk",
    "Level",
    "MailNotifier",
    "News",
    "Notifier",
    "Open",
    "Patience",
    "PingNotifier",
    "SlackNotifier",
    "compare",
    "deliver",
    "open_desk",
    "open_notifiers",
    "ping_variables",
    "worst",
]
