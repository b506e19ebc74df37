"""The shape of [tenantproof.notify]. Addresses with a secret in them come from the environment alone."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["PING_VARIABLE", "PROVEN", "ROUTES", "SLACK_VARIABLE", "SMTP_VARIABLE", "NotifySettings", "Route"]

SLACK_VARIABLE = "TENANTPROOF_SLACK_WEBHOOK"
SMTP_VARIABLE = "TENANTPROOF_SMTP_URL"
PING_VARIABLE = "TENANTPROOF_PING_URL"

Route = Literal["critical", "high", "medium", "low", "proven"]
PROVEN: Route = "proven"
ROUTES: tuple[Route, ...] = ("critical", "high", "medium", "low", PROVEN)


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """[tenantproof.notify]"""

    email_from: str = ""
    """Sender of alerts by e-mail."""
    email_to: tuple[str, ...] = ()
    """Who gets alerts by e-mail."""
    slack: tuple[Route, ...] = ROUTES
    """Severities that go to Slack; "proven" are the summaries of runs in which nothing is wrong."""
    email: tuple[Route, ...] = ROUTES
    """Severities that go out by e-mail."""
    repeat_hours: float = 24.0
    """After how many hours a cause that is still there is told again."""
    timeout_s: float = 10.0
    """How long a server may be silent."""
    tries: int = 4
    """How often one delivery is tried."""
    give_up_s: float = 60.0
    """How long one delivery may take, all tries and waits together; then the alert waits in the outbox."""
    outbox_days: float = 7.0
    """How long an undelivered alert is tried again; then it is set aside, and that is said."""
    folder: str = ".tenantproof"
    """Where open causes and undelivered alerts are kept, relative to the config file; no secret is in it."""
