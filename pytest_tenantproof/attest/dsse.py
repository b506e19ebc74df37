"""DSSE v1 envelopes (secure-systems-lab/dsse, protocol.md): exactly one signature, exactly one spelling."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_tenantproof.attest import sign
from pytest_tenantproof.attest.strictjson import canonical, load
from pytest_tenantproof.errors import VerificationError

__all__ = ["IN_TOTO", "Opened", "envelope", "open_envelope", "pae", "signature_of"]

IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified envelope: the signed bytes, and the key that signed them."""

    payload: bytes
    key_id: str
    signature: bytes


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(payload: bytes, signer: sign.Signer, payload_type: str = IN_TOTO) -> bytes:
    """The signed envelope as one canonical JSON line."""
    signature = base64.b64encode(signer.sign(pae(payload_type, payload))).decode()
    return (
        canonical(
            {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": payload_type,
                "signatures": [{"keyid": signer.key_id, "sig": signature}],
            }
        )
        + b"\n"
    )


def open_envelope(data: bytes, keys: Mapping[str, bytes], payload_type: str = IN_TOTO) -> Opened:
    """Verifies an envelope with `keys` (key id -> raw public key) and returns what was signed.

    Raises VerificationError: envelope-malformed, payload-type, key-unknown, signature-invalid.
    """
    parsed = load(data, "the envelope")
    payload, signature, key = _fields(parsed)
    if parsed["payloadType"] != payload_type:
        raise VerificationError("payload-type", f"the envelope's payload type is not {payload_type}.")
    if canonical(parsed) + b"\n" != data:
        raise VerificationError("envelope-malformed", "the envelope is not in its canonical form.")
    if key not in keys:
        raise VerificationError(
            "key-unknown", f"the envelope names key {key[:16]}, which is not trusted.", remedy="pass its public key."
        )
    if sign.key_id(keys[key]) != key:
        raise VerificationError("key-unknown", "the envelope's key id is not that of the verifying key.")
    sign.check(keys[key], pae(payload_type, payload), signature)
    return Opened(payload, key, signature)


def signature_of(data: bytes) -> bytes:
    """The signature bytes in an envelope, unverified: what a timestamp is over."""
    return _fields(load(data, "the envelope"))[1]


def _fields(parsed: dict[str, Any]) -> tuple[bytes, bytes, str]:
    try:
        (only,) = parsed["signatures"]
        if set(parsed) != {"payload", "payloadType", "signatures"} or set(only) != {"keyid", "sig"}:
            raise VerificationError("envelope-malformed", "the envelope has unknown or missing fields.")
        return _decoded(parsed["payload"]), _decoded(only["sig"]), str(only["keyid"])
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise VerificationError(
            "envelope-malformed", "the envelope is not a DSSE envelope with one signature."
        ) from None


def _decoded(text: str) -> bytes:
    """Base64 in its only spelling: the bits that the last character does not use are zero (RFC 4648, 3.5)."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("not canonical")
    return data
