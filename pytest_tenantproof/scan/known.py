"""What a scan looks for beyond the shapes of well-known credentials: the product's own secrets."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import ConfigError, ScanError

__all__ = ["Known", "known_of"]

_SHORTEST = 8
_OWN = re.compile(r"TENANTPROOF_\w*(DSN|KEY|SECRET|PASSWORD|TOKEN|WEBHOOK|SMTP_URL|PING_URL)")
_USERINFO = re.compile(r"://[^:/@\s]*:([^@\s]+)@")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_PREFIXES = rb"(?:VITE_|NEXT_PUBLIC_|REACT_APP_|NUXT_PUBLIC_|EXPO_PUBLIC_|GATSBY_|PUBLIC_|VUE_APP_)?"


@dataclass(frozen=True, slots=True)
class Known:
    """What is secret here. `forms` is every spelling of a secret's value or digest -> what it is."""

    anonymous_roles: frozenset[str] = frozenset({"anon"})
    service_roles: frozenset[str] = frozenset({"service_role"})
    forms: Mapping[bytes, str] | None = None
    names: re.Pattern[bytes] | None = None
    hashes: frozenset[str] = frozenset()


def known_of(settings: Settings, environment: Mapping[str, str]) -> Known:
    """What the settings and the environment say is secret. Raises ConfigError or ScanError."""
    guard = settings.guard
    for text in guard.secret_hashes:
        if not _HASH.fullmatch(text):
            raise ConfigError(
                f"{settings.source}: guard.secret_hashes has an entry that is no hash.",
                remedy="write sha256: and 64 lower-case hexadecimal digits.",
            )
    own = {name for name in environment if _OWN.fullmatch(name)}
    forms: dict[bytes, str] = {}
    for name in sorted({*guard.secret_variables, *own}):
        forms |= {form: what for what, form in _forms(name, environment.get(name, ""))}
    listed = b"|".join(sorted(re.escape(name).encode() for name in guard.secret_variables))
    return Known(
        anonymous_roles=frozenset(settings.anonymous_roles),
        service_roles=frozenset(settings.service_roles),
        forms=forms,
        names=re.compile(rb"(?<![A-Za-z0-9_])" + _PREFIXES + rb"(?:" + listed + rb")(?![A-Za-z0-9_])")
        if listed
        else None,
        hashes=frozenset(text.removeprefix("sha256:") for text in guard.secret_hashes),
    )


def _forms(name: str, value: str) -> Iterator[tuple[str, bytes]]:
    if not value:
        return
    if len(value) < _SHORTEST:
        raise ScanError(
            f"{name} is too short to be looked for.", remedy=f"use a secret of at least {_SHORTEST} characters."
        )
    yield from _spellings(f"the value of {name}", value)
    found = _USERINFO.search(value)
    if found and len(unquote(found[1])) >= _SHORTEST:
        yield from _spellings(f"the password of {name}", unquote(found[1]))
    for algorithm in ("sha256", "sha512", "sha1", "md5"):
        digest = hashlib.new(algorithm, value.encode(), usedforsecurity=False)
        yield f"the {algorithm} of {name}", digest.hexdigest().encode()
        yield f"the {algorithm} of {name}", digest.hexdigest().upper().encode()
        yield f"the {algorithm} of {name}", base64.b64encode(digest.digest()).rstrip(b"=")


def _spellings(what: str, value: str) -> Iterator[tuple[str, bytes]]:
    for text in (value, json.dumps(value)[1:-1], quote(value, safe=""), quote(value), value.replace("/", "\\/")):
        yield what, text.encode()
