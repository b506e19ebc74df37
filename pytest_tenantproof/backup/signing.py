"""What this room asks of a signature: a DSSE envelope over exact bytes, made and verified elsewhere."""

from typing import Protocol

__all__ = ["Signer", "Verifier"]


class Signer(Protocol):
    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """The DSSE envelope (JSON) over `payload`."""
        ...


class Verifier(Protocol):
    def verify(self, envelope: bytes, payload_type: str) -> bytes:
        """The payload of an envelope signed by the trusted key. Raises VerificationError."""
        ...
