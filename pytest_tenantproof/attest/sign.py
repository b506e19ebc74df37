"""Ed25519 (RFC 8032) through libsodium. The only file of this room that touches a primitive."""

import hashlib

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from pytest_tenantproof.errors import SigningKeyError, VerificationError

__all__ = ["Signer", "check", "key_id", "new_seed"]

_SEED_BYTES = 32
_SIGNATURE_BYTES = 64


def new_seed() -> bytes:
    """32 random bytes: the secret part of a new key."""
    return bytes(SigningKey.generate())


def key_id(public: bytes) -> str:
    """sha256 of the raw public key, as hex."""
    return hashlib.sha256(public).hexdigest()


class Signer:
    """Holds a private key. `ephemeral` keys prove integrity only: nobody vouches for who made them."""

    def __init__(self, seed: bytes, *, ephemeral: bool = False) -> None:
        if len(seed) != _SEED_BYTES:
            raise SigningKeyError(
                f"a signing key has {_SEED_BYTES} bytes, this one {len(seed)}.",
                remedy="make one with `tenantproof keys new`.",
            )
        self._key = SigningKey(seed)
        self.ephemeral = ephemeral

    @property
    def public(self) -> bytes:
        return bytes(self._key.verify_key)

    @property
    def key_id(self) -> str:
        return key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature."""
        return self._key.sign(message).signature


def check(public: bytes, message: bytes, signature: bytes) -> None:
    """Raises VerificationError (signature-invalid) unless `signature` is `public`'s over `message`."""
    if len(signature) != _SIGNATURE_BYTES:
        raise VerificationError("signature-invalid", "the signature does not have 64 bytes.")
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError, TypeError):
        raise VerificationError("signature-invalid", "the signature does not match the statement.") from None
