"""The only place of this room that touches primitives.

Data keys are random, one for each tenant and run, and sealed by the wrapping key of their key object (AES-256-GCM),
which is random too and wrapped to X25519 recipients (libsodium sealed box): one costly box for many tenants.
Chunks are sealed as in STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015): AES-256-GCM under a key of their
own segment, the nonce being an 11-byte counter and a final flag, so that nothing can be cut, reordered or
repeated unnoticed; the segment's context is bound as associated data and into the derivation of its key.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from pytest_tenantproof.errors import BackupError, FormatError

__all__ = [
    "SALT_BYTES",
    "TAG_BYTES",
    "BackupKeypair",
    "ChunkCipher",
    "Recipient",
    "data_key_id",
    "new_data_key",
    "new_keypair",
    "open_key",
    "parse_private",
    "parse_recipient",
    "seal_key",
    "unwrap",
    "wrap",
]

TAG_BYTES = 16
SALT_BYTES = 32
_PUBLIC = "tpbpub1:"
_PRIVATE = "tpbkey1:"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Someone who can read backups: `key` is an X25519 public key, `id` the start of its sha256."""

    key: bytes
    id: str

    @property
    def text(self) -> str:
        return _PUBLIC + base64.b64encode(self.key).decode()


@dataclass(frozen=True, slots=True)
class BackupKeypair:
    """A recipient and the private key that reads what is wrapped to it. Its repr shows no secret."""

    recipient: Recipient
    private: bytes = field(repr=False)

    @property
    def private_text(self) -> str:
        return _PRIVATE + base64.b64encode(self.private).decode()


def new_keypair() -> BackupKeypair:
    return _pair(PrivateKey.generate())


def _pair(private: PrivateKey) -> BackupKeypair:
    public = bytes(private.public_key)
    return BackupKeypair(Recipient(public, hashlib.sha256(public).hexdigest()[:16]), bytes(private))


def parse_recipient(text: str) -> Recipient:
    """The recipient written as tpbpub1:BASE64. Raises BackupError."""
    key = _decode(text, _PUBLIC, "public backup key")
    return Recipient(key, hashlib.sha256(key).hexdigest()[:16])


def parse_private(text: str) -> BackupKeypair:
    """The key pair of a private key written as tpbkey1:BASE64. Raises BackupError, without the text."""
    return _pair(PrivateKey(_decode(text, _PRIVATE, "private backup key")))


def _decode(text: str, prefix: str, what: str) -> bytes:
    match = re.fullmatch(re.escape(prefix) + r"([A-Za-z0-9+/]{43}=)", text.strip())
    try:
        return base64.b64decode(match[1], validate=True) if match else _malformed(prefix, what)
    except binascii.Error:
        return _malformed(prefix, what)


def _malformed(prefix: str, what: str) -> bytes:
    raise BackupError(
        f"a {what} is malformed.",
        remedy=f"it is {prefix} and 44 base64 characters; see `tenantproof keys new --backup`.",
    )


def new_data_key() -> bytes:
    return os.urandom(32)


def data_key_id(key: bytes) -> str:
    """What the manifest commits to: it names the key without telling anything of it (256 random bits)."""
    return hashlib.sha256(b"tenantproof/data-key/1\n" + key).hexdigest()[:32]


def wrap(key: bytes, recipients: Iterable[Recipient]) -> dict[str, str]:
    """The key sealed to each recipient, by recipient id, as base64. Raises FormatError for a weak public key."""
    try:
        return {to.id: base64.b64encode(SealedBox(PublicKey(to.key)).encrypt(key)).decode() for to in recipients}
    except CryptoError:
        raise FormatError(
            "a key cannot be wrapped to a recipient.",
            remedy="make a new key with `tenantproof keys new --backup`.",
        ) from None


def unwrap(boxes: Mapping[str, str], pair: BackupKeypair) -> bytes:
    """The wrapped key. Raises BackupError for a key that is no recipient, FormatError for a damaged box."""
    if pair.recipient.id not in boxes:
        raise BackupError(
            f"the private key {pair.recipient.id} cannot read this: it is wrapped to {', '.join(boxes)}.",
            remedy="use the private key of one of these recipients, or have one of them run `keys rewrap`.",
        )
    try:
        box = base64.b64decode(boxes[pair.recipient.id], validate=True)
        key = SealedBox(PrivateKey(pair.private)).decrypt(box)
    except (CryptoError, binascii.Error, ValueError):
        raise FormatError(
            "a wrapped key is damaged.", remedy="take an older version of the key object, or another backup."
        ) from None
    if len(key) != 32:
        raise FormatError("a wrapped key has the wrong length.", remedy="use another backup.")
    return key


def seal_key(wrapping: bytes, data_key: bytes, context: bytes) -> str:
    """The data key under its object's wrapping key, bound to `context` (whose key it is), as base64."""
    nonce = os.urandom(12)
    return base64.b64encode(nonce + AESGCM(wrapping).encrypt(nonce, data_key, context)).decode()


def open_key(wrapping: bytes, sealed: str, context: bytes) -> bytes:
    """The inverse of `seal_key`. Raises FormatError for anything damaged or of another context."""
    try:
        raw = base64.b64decode(sealed, validate=True)
        key = AESGCM(wrapping).decrypt(raw[:12], raw[12:], context)
    except (InvalidTag, binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise FormatError(
            "a wrapped key is damaged.", remedy="take an older version of the key object, or another backup."
        )
    return key


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) for one block of output: two one-shot HMACs, ten times as fast as a general one,
    which counts with a segment for each table of each small tenant."""
    return hmac.digest(hmac.digest(salt, key, "sha256"), info + b"\x01", "sha256")


class ChunkCipher:
    """Seals or opens the chunks of one segment in order. A (key, salt, context) is used for one segment."""

    def __init__(self, data_key: bytes, salt: bytes, context: bytes) -> None:
        self._aead = AESGCM(_derived(data_key, salt, b"tenantproof/segment/1\n" + context))
        self._context = context
        self._count = 0

    def _nonce(self, final: bool) -> bytes:
        nonce = self._count.to_bytes(11, "big") + (b"\x01" if final else b"\x00")
        self._count += 1
        return nonce

    def seal(self, chunk: bytes, *, final: bool) -> bytes:
        return self._aead.encrypt(self._nonce(final), chunk, self._context)

    def open(self, sealed: bytes, *, final: bool) -> bytes:
        """Raises FormatError for anything but the next chunk of this very segment."""
        try:
            return self._aead.decrypt(self._nonce(final), sealed, self._context)
        except InvalidTag:
            raise FormatError(
                f"chunk {self._count} does not authenticate: damaged, cut, reordered, or of another segment.",
                remedy="use another copy of the object, or an older backup.",
            ) from None
