"""One HTTP request, without its address in any error: webhooks and ping URLs are secrets."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests

from pytest_tenantproof.errors import ConfigError, NotifyError

__all__ = ["LONGEST_WAIT", "LOOPBACK", "Reply", "refused", "request", "require_https", "seconds_of"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
LONGEST_WAIT = 3600.0
"""Seconds: no server can silence alerts for longer, whatever its Retry-After says."""
_LARGEST = 4096

_REMEDIES = {
    requests.exceptions.SSLError: "check the certificate of the server, and this machine's clock and CA bundle.",
    requests.exceptions.Timeout: "check the network and a proxy, or raise timeout_s in [tenantproof.notify].",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said: status, the start of the body, and Retry-After in seconds (0 without one)."""

    status: int
    text: str
    retry_after: float


def require_https(url: str, variable: str) -> None:
    """Raises ConfigError for an address that would carry a secret in the clear to another machine."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        raise ConfigError(f"{variable} is not an https:// address.", remedy="correct the variable.")


def request(method: str, url: str, who: str, *, timeout: float, json: Any = None) -> Reply:
    """The answer, whatever its status. Redirects are not followed. Raises NotifyError when there is none."""
    try:
        with requests.request(method, url, json=json, timeout=timeout, allow_redirects=False, stream=True) as answer:
            body = next(answer.iter_content(_LARGEST), b"")
            wait = seconds_of(answer.headers.get("Retry-After", ""))
            return Reply(answer.status_code, body.decode("utf-8", "replace"), wait)
    except (requests.exceptions.RequestException, ValueError, UnicodeError) as error:
        kind = type(error).__name__
        remedy = next((r for c, r in _REMEDIES.items() if isinstance(error, c)), "check the URL and the network.")
        lasting = (requests.exceptions.SSLError, ValueError)
        transient = not isinstance(error, lasting)
        raise NotifyError(f"{who} could not be reached: {kind}.", remedy=remedy, transient=transient) from None


def refused(reply: Reply, who: str, remedy: str) -> NotifyError:
    """The error for an answer that is not the wanted one; too busy (429) and broken (5xx) may pass."""
    transient = reply.status == 429 or reply.status >= 500
    text = f"{who} refused the alert with status {reply.status}."
    return NotifyError(text, remedy=remedy, transient=transient, retry_after=reply.retry_after)


def seconds_of(retry_after: str, now: datetime | None = None) -> float:
    """Seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3), at most LONGEST_WAIT; 0 for nonsense."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0), LONGEST_WAIT)
