"""RFC 3161 timestamps: what is asked of an authority, and how its whole response is verified offline.

The authority's certificates are checked against pinned roots at the time the token was made (genTime), so
that a token outlives the certificate that signed it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    VerifierBuilder,
    decode_timestamp_response,
)
from rfc3161_client.errors import VerificationError as TokenError
from rfc3161_client.tsp import PKIStatus

from pytest_tenantproof.errors import ConfigError, VerificationError

__all__ = ["Request", "read_roots", "request", "verify_token"]

_STATUS = {status.value: status.name.lower() for status in PKIStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """What goes to the authority, and the nonce that has to come back."""

    body: bytes
    nonce: int | None


def request(data: bytes) -> Request:
    """A request for a token over sha256(data), with a nonce and the authority's certificate."""
    builder = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256)
    made = builder.nonce(nonce=True).cert_request(cert_request=True).build()
    return Request(made.as_bytes(), made.nonce)


def read_roots(path: Path) -> list[x509.Certificate]:
    """The pinned root certificates of a PEM file. Raises ConfigError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} holds no certificate in PEM: {error}.", remedy="name the authority's root certificate."
        ) from error


def verify_token(
    response: bytes, data: bytes, roots: Sequence[x509.Certificate], *, nonce: int | None = None
) -> datetime:
    """The time (UTC) at which a trusted authority saw `data`.

    Raises VerificationError: timestamp-malformed, timestamp-refused, timestamp-mismatch, timestamp-untrusted.
    """
    try:
        parsed = decode_timestamp_response(response)
        status = parsed.status
    except ValueError as error:
        raise VerificationError("timestamp-malformed", f"the timestamp response is malformed: {error}.") from None
    if status != PKIStatus.GRANTED.value:
        raise VerificationError("timestamp-refused", f"the authority answered {_STATUS.get(status, status)}.")
    try:
        info = parsed.tst_info
        if info.message_imprint.message not in _imprints(data):
            raise VerificationError("timestamp-mismatch", "the timestamp is over something else.")
        builder = VerifierBuilder(roots=list(roots), nonce=nonce)
        builder.build().verify_message(parsed, data)
        return info.gen_time.replace(tzinfo=UTC) if info.gen_time.tzinfo is None else info.gen_time.astimezone(UTC)
    except (TokenError, ValueError) as error:
        raise VerificationError("timestamp-untrusted", f"the timestamp does not verify: {error}.") from None


def _imprints(data: bytes) -> set[bytes]:
    return {hashlib.new(name, data).digest() for name in ("sha256", "sha384", "sha512")}
