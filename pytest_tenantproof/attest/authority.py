"""Asks a timestamp authority over HTTP (RFC 3161, section 3.4)."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import requests

from pytest_tenantproof.attest import timestamp
from pytest_tenantproof.errors import EvidenceError, VerificationError, redact

__all__ = ["Authority", "Stamp"]

_LARGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Stamp:
    """The whole response, and the time (UTC) that it attests."""

    response: bytes
    time: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """Where to ask, the file of pinned roots, and how long to wait (seconds)."""

    url: str
    roots: Path
    timeout_s: float = 10.0

    def stamp(self, data: bytes) -> Stamp:
        """A verified timestamp over `data`. Raises EvidenceError for refusal, time-out or a bad token, and
        ConfigError for unusable roots."""
        trusted = timestamp.read_roots(self.roots)
        wanted = timestamp.request(data)
        try:
            response = self._post(wanted.body)
            return Stamp(response, timestamp.verify_token(response, data, trusted, nonce=wanted.nonce))
        except (requests.RequestException, VerificationError) as error:
            said = error.reason if isinstance(error, VerificationError) else type(error).__name__
            raise EvidenceError(
                f"the timestamp authority gave no usable timestamp: {said}: {redact(str(error))[:200]}",
                remedy="check [tenantproof.timestamp] url and root, and that the authority answers.",
            ) from error

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
        with requests.post(self.url, data=body, headers=headers, timeout=self.timeout_s, stream=True) as answer:
            answer.raise_for_status()
            data: bytes = answer.raw.read(_LARGEST + 1, decode_content=True)
            if len(data) > _LARGEST:
                raise VerificationError("timestamp-malformed", "the response is larger than 64 KiB.")
            return data
