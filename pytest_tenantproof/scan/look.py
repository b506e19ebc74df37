"""Credentials in a piece of bytes, by their shape. Pure; what it says of a find never holds the find itself."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pytest_tenantproof.scan.known import Known

__all__ = ["Find", "look", "look_for_names", "look_in_source"]

# Each part of a token is base64url of JSON, which starts with { and then " or white space. The look-ahead finds
# a token also where another match would have begun before it.
_JWT = re.compile(rb"(?=(e(?:y[JA]|w[o0k])[A-Za-z0-9_-]{12,}\.[A-Za-z0-9_-]{2,}(?:\.[A-Za-z0-9_-]*)?))")
_PLATFORM = re.compile(rb"sb_secret_[A-Za-z0-9_-]{16,}|(?<![A-Za-z0-9_])sbp_(?:v0_|oauth_)?[0-9a-f]{40}")
_URL = re.compile(
    rb"(postgres|postgresql|mysql|mariadb|mongodb|mongodb\+srv|redis|rediss|amqp|amqps):(?:\\?/){2}"
    rb"([^\s:/@\"'`\\]*):([^\s@/\"'`\\]+)@([A-Za-z0-9._\[\]:-]*)"
)
_KEYWORDS = re.compile(rb"(?<![A-Za-z0-9_])(?:host|hostaddr|dbname|user)=[^\s\"'`]+\s(?:[a-z_]+=[^\s\"'`]*\s+){0,8}")
_PASSWORD = re.compile(rb"(?:^|\s)password=([^\s\"'`\\&]+)")
_PEM = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:\\r|\\n|\s)*[A-Za-z0-9+/=]{16}")
_TOKENS = (re.compile(rb"[^\s\"'`\\]{8,512}"), re.compile(rb"[A-Za-z0-9_+/=.~-]{8,512}"))
_WORDS = frozenset({b"password", b"pass", b"passwd", b"pw", b"pwd", b"secret", b"postgres", b"xxx", b"***"})
_NOWHERE = re.compile(rb"localhost|127\.0\.0\.1|host(name)?|server|db|database|(.*\.)?example\.(com|org|net)|\.\.\.|")


@dataclass(frozen=True, slots=True)
class Find:
    """Something that may not be there. `fingerprint` tells finds apart and is of no use to an attacker."""

    offset: int
    kind: str
    detail: str
    fingerprint: str


def look(data: bytes, known: Known) -> Iterator[Find]:
    """Every credential in `data`, whose offset is in bytes."""
    for needle, finder in _FINDERS:
        if any(part in data for part in needle):
            yield from finder(data, known)
    for form, what in (known.forms or {}).items():
        for at in _all(data, form):
            yield Find(at, "configured-secret", what, "")
    if known.hashes:
        yield from _hashed(data, known)


def look_for_names(data: bytes, known: Known) -> Iterator[Find]:
    """Names of the variables that hold secrets: the front end knows what it must never be given."""
    if known.names:
        for match in known.names.finditer(data):
            name = match[0].decode()
            yield Find(match.start(), "secret-variable", f"refers to {name}", "")


def look_in_source(text: str, known: Known) -> Iterator[tuple[int, Find]]:
    """Credentials, and names of variables that hold them, in source code; with the line of each."""
    data = text.encode()
    for find in sorted((*look(data, known), *look_for_names(data, known)), key=lambda find: find.offset):
        yield data.count(b"\n", 0, find.offset) + 1, find


def _tokens(data: bytes, known: Known) -> Iterator[Find]:
    seen_to = 0
    for match in _JWT.finditer(data):
        header, payload, *_ = match[1].split(b".")
        head = _json(header)
        if match.start() < seen_to or not isinstance(head, dict) or "alg" not in head:
            continue
        seen_to = match.start() + len(header) + 1 + len(payload)
        kind, detail = _judged(_json(payload), known)
        if kind:
            yield Find(match.start(), kind, detail, _fingerprint(match[1]))


def _judged(claims: Any, known: Known) -> tuple[str, str]:
    """Only a token for an anonymous role may be in a browser; whatever else it is, somebody is in it."""
    if not isinstance(claims, dict):
        return "jwt", "a token whose claims cannot be read"
    role = claims.get("role")
    if role in known.anonymous_roles:
        return "", ""
    if role in known.service_roles:
        return "service-role-jwt", f"a token for the role {role}, which bypasses row security"
    if not isinstance(role, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,63}", role):
        return "jwt", "a token that names no role, so it cannot be judged harmless"
    return "jwt", f"a token for the role {role}"


def _json(part: bytes) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None


def _platform_keys(data: bytes, known: Known) -> Iterator[Find]:
    for match in _PLATFORM.finditer(data):
        kind, detail = "platform-token", "a personal access token of the platform"
        if match[0].startswith(b"sb_secret_"):
            kind, detail = "secret-key", "a secret API key, which bypasses row security"
        yield Find(match.start(), kind, detail, _fingerprint(match[0]))


def _urls(data: bytes, known: Known) -> Iterator[Find]:
    for match in _URL.finditer(data):
        scheme, user, password, host = match.groups()
        example = password.lower() in _WORDS or password[:1] in b"[<"
        if password.startswith(b"${") or (example and _NOWHERE.fullmatch(host.partition(b":")[0])):
            continue
        # A password may be short enough to be guessed from a hash, so no fingerprint is made of it.
        where = f"{scheme.decode()}://{_clean(user)}:***@{_clean(host)}"
        yield Find(match.start(), "connection-string", f"a connection string with a password: {where}", "")


def _keyword_strings(data: bytes, known: Known) -> Iterator[Find]:
    for match in _KEYWORDS.finditer(data):
        found = _PASSWORD.search(data, match.start(), match.end() + 256)
        if found and b"\n" not in data[match.start() : found.start(1)] and not found[1].startswith(b"${"):
            yield Find(match.start(), "connection-string", "a connection string with a password: host=... ***", "")


def _private_keys(data: bytes, known: Known) -> Iterator[Find]:
    for match in _PEM.finditer(data):
        yield Find(match.start(), "private-key", "a private key", _fingerprint(data[match.start() : match.end() + 64]))


def _hashed(data: bytes, known: Known) -> Iterator[Find]:
    for match in (match for pattern in _TOKENS for match in pattern.finditer(data)):
        if hashlib.sha256(match[0]).hexdigest() in known.hashes:
            yield Find(match.start(), "configured-secret", "a secret of guard.secret_hashes", "")


def _all(data: bytes, part: bytes) -> Iterator[int]:
    at = data.find(part)
    while at >= 0:
        yield at
        at = data.find(part, at + len(part))


def _fingerprint(secret: bytes) -> str:
    return f"sha256:{hashlib.sha256(secret).hexdigest()[:12]}"


def _clean(part: bytes) -> str:
    return re.sub(r"[^A-Za-z0-9._:-]", "?", part.decode("ascii", "replace"))[:64]


_FINDERS: tuple[tuple[tuple[bytes, ...], Callable[[bytes, Known], Iterator[Find]]], ...] = (
    ((b"eyJ", b"eyA", b"ewo", b"ew0", b"ewk"), _tokens),
    ((b"sb_secret_", b"sbp_"), _platform_keys),
    ((b"://", b":\\/\\/"), _urls),
    ((b"password=",), _keyword_strings),
    ((b"PRIVATE KEY-----",), _private_keys),
)
