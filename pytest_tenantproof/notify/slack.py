"""Slack, by an incoming webhook (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks)."""

from dataclasses import dataclass, field
from typing import Any

from pytest_tenantproof.config.notify import SLACK_VARIABLE
from pytest_tenantproof.errors import NotifyError, redact
from pytest_tenantproof.notify.alert import Alert, Level
from pytest_tenantproof.notify.http import request, require_https

__all__ = ["SlackNotifier", "message"]

# Block Kit's limits: header 150, section text 3000, ten fields of 2000 each.
_HEADER, _SECTION, _FIELD, _FIELDS = 150, 3000, 2000, 10
_SIGNS = {Level.OK: "🟢", Level.INFO: "🟢", Level.WARN: "🟡", Level.FAIL: "🔴"}
_REMEDIES = {
    403: f"the webhook was revoked or its app is restricted: make a new one and set {SLACK_VARIABLE}.",
    404: f"the webhook does not exist: correct {SLACK_VARIABLE}.",
    410: f"the channel is archived: make a webhook for another and set {SLACK_VARIABLE}.",
    429: "Slack limits the rate: fewer alerts, or wait.",
}


@dataclass(frozen=True, slots=True)
class SlackNotifier:
    """Posts to one channel. `webhook` is a secret."""

    webhook: str = field(repr=False)
    timeout: float = 10.0
    name: str = "Slack"

    def __post_init__(self) -> None:
        require_https(self.webhook, SLACK_VARIABLE)

    def wants(self, alert: Alert) -> bool:
        return alert.level is not Level.OK

    def send(self, alert: Alert) -> None:
        answer = request("POST", self.webhook, self.name, timeout=self.timeout, json=message(alert))
        if answer.status_code != 200 or answer.text.strip() != "ok":
            remedy = _REMEDIES.get(answer.status_code, "see https://status.slack.com and send it again.")
            raise NotifyError(f"Slack refused the alert with status {answer.status_code}.", remedy=remedy)


def message(alert: Alert) -> dict[str, Any]:
    """The payload: a header, the text, the remedy and the facts, cut to Block Kit's limits."""
    head = redact(f"{_SIGNS[alert.level]} {alert.title}")
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(head, _HEADER)}},
        _section(_escaped(alert.text)),
    ]
    if alert.remedy:
        blocks.append(_section(f"*What to do:* {_escaped(alert.remedy)}"))
    named = [("target", alert.target), ("run", alert.run), *alert.facts]
    fields = [_markdown(f"*{_escaped(n)}*\n{_escaped(v)}", _FIELD) for n, v in named if v]
    blocks += [{"type": "section", "fields": fields[at : at + _FIELDS]} for at in range(0, len(fields), _FIELDS)][:10]
    return {"text": _cut(_escaped(head), _SECTION), "blocks": blocks}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _markdown(text, _SECTION)}


def _markdown(text: str, limit: int) -> dict[str, str]:
    return {"type": "mrkdwn", "text": _cut(text or "-", limit)}


def _escaped(text: str) -> str:
    """Slack's three control characters, so that no text can mention a channel or hide a link."""
    return redact(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, limit: int) -> str:
    """`text` within the limit; an escape is never cut in half."""
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    start = kept.rfind("&", -5)
    return (kept[:start] if start >= 0 and ";" not in kept[start:] else kept) + "…"
