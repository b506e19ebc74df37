"""Signing keys: PEM files that openssl reads too (RFC 8410), private ones for their owner only."""

import base64
import binascii
import os
import re
from pathlib import Path

from pytest_tenantproof.attest import sign
from pytest_tenantproof.errors import SigningKeyError

__all__ = ["KEY_FILE_VARIABLE", "KEY_VARIABLE", "load_public", "load_signer", "new_key", "public_pem", "read_public"]

KEY_VARIABLE = "TENANTPROOF_SIGNING_KEY"
KEY_FILE_VARIABLE = "TENANTPROOF_SIGNING_KEY_FILE"
# DER prefixes of PKCS #8 and SubjectPublicKeyInfo for Ed25519 (RFC 8410, sections 7 and 4)
_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC = bytes.fromhex("302a300506032b6570032100")


def _pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n"


def _unpem(text: str, label: str, prefix: bytes, where: str) -> bytes:
    found = re.fullmatch(rf"\s*-----BEGIN {label}-----\s+([A-Za-z0-9+/=\s]+?)-----END {label}-----\s*", text)
    try:
        der = base64.b64decode("".join(found[1].split()), validate=True) if found else b""
    except binascii.Error:
        der = b""
    if not der.startswith(prefix) or len(der) != len(prefix) + 32:
        raise SigningKeyError(
            f"{where} is not an Ed25519 {label.lower()} in PEM.", remedy="make one with `tenantproof keys new`."
        )
    return der[len(prefix) :]


def public_pem(public: bytes) -> str:
    return _pem("PUBLIC KEY", _PUBLIC + public)


def new_key(folder: Path, name: str = "tenantproof") -> tuple[Path, Path]:
    """Writes NAME.key (0600) and NAME.pub, and returns their paths. Never overwrites. Raises SigningKeyError."""
    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    seed = sign.new_seed()
    try:
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(_pem("PRIVATE KEY", _PRIVATE + seed))
        with os.fdopen(os.open(public, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as out:
            out.write(public_pem(sign.Signer(seed).public))
    except FileExistsError as error:
        raise SigningKeyError(
            f"{error.filename} exists.", remedy="choose another name; keys are never overwritten."
        ) from error
    return private, public


def load_signer() -> sign.Signer | None:
    """The signer that the environment names, or None. Raises SigningKeyError for an unusable key."""
    if text := os.environ.get(KEY_VARIABLE):
        return sign.Signer(_unpem(text.replace("\\n", "\n"), "PRIVATE KEY", _PRIVATE, f"${KEY_VARIABLE}"))
    named = os.environ.get(KEY_FILE_VARIABLE)
    if not named:
        return None
    path = Path(named)
    try:
        if path.stat().st_mode & 0o077:
            raise SigningKeyError(f"{path} can be read by others.", remedy=f"chmod 600 {path}")
        return sign.Signer(_unpem(path.read_text(), "PRIVATE KEY", _PRIVATE, str(path)))
    except OSError as error:
        raise SigningKeyError(
            f"{path} cannot be read: {error.strerror}.", remedy=f"correct {KEY_FILE_VARIABLE}."
        ) from error


def load_public(text: str, where: str) -> bytes:
    """The raw public key of a PEM text. Raises SigningKeyError."""
    return _unpem(text, "PUBLIC KEY", _PUBLIC, where)


def read_public(path: Path) -> bytes:
    """The raw public key in a PEM file. Raises SigningKeyError."""
    try:
        return load_public(path.read_text(), str(path))
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be read: {error.strerror}.", remedy="correct the path.") from error
