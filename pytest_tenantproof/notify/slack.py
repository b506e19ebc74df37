"""Slack, by an incoming webhook (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks)."""

from dataclasses import dataclass, field
from typing import Any

from pytest_tenantproof.config.notify import ROUTES, SLACK_VARIABLE, Route
from pytest_tenantproof.notify.alert import Alert, Level, plain, wanted
from pytest_tenantproof.notify.http import refused, request, require_https

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
    routes: tuple[Route, ...] = ROUTES
    name: str = "Slack"

    def __post_init__(self) -> None:
        require_https(self.webhook, SLACK_VARIABLE)

    def wants(self, alert: Alert) -> bool:
        return wanted(alert, self.routes)

    def send(self, alert: Alert) -> None:
        reply = request("POST", self.webhook, self.name, timeout=self.timeout, json=message(alert))
        if reply.status != 200 or reply.text.strip() != "ok":
            raise refused(reply, self.name, _REMEDIES.get(reply.status, "see https://status.slack.com."))


def message(alert: Alert) -> dict[str, Any]:
    """The payload: a header, the text, the remedy and the facts, cut to Block Kit's limits."""
    head = plain(f"{_SIGNS[alert.level]} {alert.title}")
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(head, _HEADER)}},
        _section(_escaped(alert.text)),
    ]
    if alert.remedy:
        blocks.append(_section(f"*What to do:* {_escaped(alert.remedy)}"))
    named = [("target", alert.target), ("run", alert.run), *alert.facts]
    fields = [_markdown(f"*{_escaped(n)}*\n{_escaped(v)}", _FIELD) for n, v in named if v]
    blocks += [{"type": "section", "fields": fields[at : at + _FIELDS]} for at in range(0, len(fields), _FIELDS)][:10]
    return {"text": _cut(_escaped(head), _SECTION), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _markdown(text, _SECTION)}


def _markdown(text: str, limit: int) -> dict[str, Any]:
    """`verbatim`: a name that reads like a link, a channel or a person becomes none."""
    return {"type": "mrkdwn", "text": _cut(text or "-", limit), "verbatim": True}


def _escaped(text: str) -> str:
    """Slack's three control characters, so that no text can mention a channel or hide a link."""
    return plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, limit: int) -> str:
    """`text` within the limit; an escape is never cut in half."""
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    start = kept.rfind("&", -5)
    return (kept[:start] if start >= 0 and ";" not in kept[start:] else kept) + "…"
