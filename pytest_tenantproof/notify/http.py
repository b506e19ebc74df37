"""One HTTP request, without its address in any error: webhooks and ping URLs are secrets."""

from typing import Any
from urllib.parse import urlsplit

import requests

from pytest_tenantproof.errors import ConfigError, NotifyError

__all__ = ["LOOPBACK", "request", "require_https"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_REMEDIES = {
    requests.exceptions.SSLError: "check the certificate of the server, and this machine's clock and CA bundle.",
    requests.exceptions.Timeout: "check the network and a proxy, or raise timeout_s in [tenantproof.notify].",
}


def require_https(url: str, variable: str) -> None:
    """Raises ConfigError for an address that would carry a secret in the clear to another machine."""
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        raise ConfigError(f"{variable} is not an https:// address.", remedy="correct the variable.")


def request(method: str, url: str, who: str, *, timeout: float, json: Any = None) -> requests.Response:
    """The answer, whatever its status. Redirects are not followed. Raises NotifyError when there is none."""
    try:
        return requests.request(method, url, json=json, timeout=timeout, allow_redirects=False)
    except (requests.exceptions.RequestException, ValueError) as error:
        kind = type(error).__name__
        remedy = next((r for c, r in _REMEDIES.items() if isinstance(error, c)), "check the URL and the network.")
        raise NotifyError(f"{who} could not be reached: {kind}.", remedy=remedy) from None
