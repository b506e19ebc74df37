"""Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint and tlog-cosignature, all v1).

A checkpoint is the text `origin, number of leaves, base64 root`, signed by whoever keeps the log; an auditor
who saw it may cosign it with a time of their own.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_tenantproof.attest import sign
from pytest_tenantproof.errors import VerificationError

__all__ = [
    "Checkpoint",
    "add_cosignature",
    "cosigned_at",
    "key_hash",
    "open_checkpoint",
    "parts",
    "signed_checkpoint",
]

_ED25519 = b"\x01"
_COSIGNATURE = b"\x04"
_LARGEST = 64 * 1024
_LINE = re.compile(r"\N{EM DASH} ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log claims: `size` leaves with Merkle `root`. `key_id` is that of the key that verified it."""

    origin: str
    size: int
    root: bytes
    key_id: str = ""

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def key_hash(name: str, kind: bytes, public: bytes) -> bytes:
    """The four bytes that name a key in a signature line; `kind` is the type of its signatures."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:4]


def _line(name: str, key: bytes, signature: bytes) -> str:
    return f"\N{EM DASH} {name} {base64.b64encode(key + signature).decode()}\n"


def signed_checkpoint(checkpoint: Checkpoint, signer: sign.Signer) -> bytes:
    """The checkpoint as a note signed in the origin's name."""
    signature = signer.sign(checkpoint.text.encode())
    key = key_hash(checkpoint.origin, _ED25519, signer.public)
    return f"{checkpoint.text}\n{_line(checkpoint.origin, key, signature)}".encode()


def add_cosignature(note: bytes, name: str, signer: sign.Signer, timestamp: int) -> bytes:
    """The note with one more line: `name` saw this checkpoint at `timestamp` (Unix seconds)."""
    text, _ = parts(note)
    signature = timestamp.to_bytes(8, "big") + signer.sign(_cosigned(text, timestamp))
    return note + _line(name, key_hash(name, _COSIGNATURE, signer.public), signature).encode()


def _cosigned(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def parts(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """The signed text and (name, key hash and signature) of each signature line. Raises VerificationError
    (checkpoint-malformed)."""
    try:
        whole = note.decode("utf-8") if len(note) <= _LARGEST else ""
        text, _, tail = whole.rpartition("\n\n")
        lines = [_LINE.fullmatch(line) for line in tail.removesuffix("\n").split("\n")]
        if not text or not tail.endswith("\n") or not all(lines) or any(c < " " and c != "\n" for c in text):
            raise VerificationError("checkpoint-malformed", "the checkpoint is not a signed note.")
        return text + "\n", [(m[1], _blob(m[2])) for m in lines if m]
    except (UnicodeDecodeError, binascii.Error):
        raise VerificationError("checkpoint-malformed", "the checkpoint is not a signed note.") from None


def _blob(text: str) -> bytes:
    """Bytes of canonical base64. The last character has bits that decoding ignores: set, they would be a change
    that nobody notices."""
    blob = base64.b64decode(text, validate=True)
    if base64.b64encode(blob).decode() != text:
        raise binascii.Error("not canonical")
    return blob


def open_checkpoint(note: bytes, trusted: Sequence[bytes]) -> Checkpoint:
    """Verifies a checkpoint with one of the `trusted` raw public keys.

    Raises VerificationError: checkpoint-malformed, key-unknown, signature-invalid.
    """
    text, signatures = parts(note)
    found = _checkpoint(text)
    known = {key_hash(found.origin, _ED25519, public): public for public in trusted}
    for name, blob in signatures:
        if name == found.origin and (public := known.get(blob[:4])) is not None:
            sign.check(public, text.encode(), blob[4:])
            return Checkpoint(found.origin, found.size, found.root, sign.key_id(public))
    raise VerificationError(
        "key-unknown", "the checkpoint is signed by no trusted key.", remedy="pass the log's public key."
    )


def _checkpoint(text: str) -> Checkpoint:
    lines = text.split("\n")
    size = lines[1] if len(lines) == 4 else ""
    if not lines[0] or not re.fullmatch(r"0|[1-9][0-9]{0,17}", size):
        raise VerificationError("checkpoint-malformed", "the checkpoint does not hold origin, size and root.")
    root = base64.b64decode(lines[2]) if re.fullmatch(r"[A-Za-z0-9+/]{43}=", lines[2]) else b""
    if base64.b64encode(root).decode() != lines[2]:
        raise VerificationError("checkpoint-malformed", "the checkpoint's root is not 32 bytes in base64.")
    return Checkpoint(lines[0], int(size), root)


def cosigned_at(note: bytes, cosigners: Mapping[str, bytes]) -> dict[str, int]:
    """When each of the named cosigners (name -> raw public key) cosigned the note: Unix seconds by name.

    Lines of others are passed over. Raises VerificationError (signature-invalid) for a line in a known
    name that does not verify.
    """
    text, signatures = parts(note)
    found: dict[str, int] = {}
    for name, blob in signatures:
        public = cosigners.get(name)
        if public is None or blob[:4] != key_hash(name, _COSIGNATURE, public):
            continue
        timestamp = int.from_bytes(blob[4:12], "big")
        sign.check(public, _cosigned(text, timestamp), blob[12:])
        found[name] = timestamp
    return found
