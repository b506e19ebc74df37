"""The shape of [tenantproof.notify]. Addresses with a secret in them come from the environment alone."""

from dataclasses import dataclass

__all__ = ["PING_VARIABLE", "SLACK_VARIABLE", "SMTP_VARIABLE", "NotifySettings"]

SLACK_VARIABLE = "TENANTPROOF_SLACK_WEBHOOK"
SMTP_VARIABLE = "TENANTPROOF_SMTP_URL"
PING_VARIABLE = "TENANTPROOF_PING_URL"


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """[tenantproof.notify]"""

    email_from: str = ""
    """Sender of alerts by e-mail."""
    email_to: tuple[str, ...] = ()
    """Who gets alerts by e-mail."""
    timeout_s: float = 10.0
    """How long one delivery may take."""
