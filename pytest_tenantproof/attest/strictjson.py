"""JSON from strangers: bounded, no duplicate keys, no NaN. Everything that is verified is loaded by this."""

import json
from typing import Any, NoReturn

from pytest_tenantproof.errors import VerificationError

__all__ = ["LARGEST", "canonical", "load"]

LARGEST = 64 * 1024 * 1024
_DEEPEST = 64
_OTHERS = bytes(set(range(256)) - set(b'[{}]"'))


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise VerificationError("json-duplicate-key", f"the key {key!r} occurs twice in one object.")
        found[key] = value
    return found


def _constant(name: str) -> NoReturn:
    raise VerificationError("json-malformed", f"{name} is not JSON.")


def _too_deep(data: bytes) -> bool:
    """Whether it nests deeper than is sane. A large envelope has few brackets, and is not gone through."""
    if data.count(b"[") + data.count(b"{") <= _DEEPEST:
        return False
    # Escapes pair up from the left, so what is left of them after this escapes no quote.
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    depth = 0
    for bracket in b"".join(plain.translate(None, _OTHERS).split(b'"')[::2]):
        depth += 1 if bracket in b"[{" else -1
        if depth > _DEEPEST:
            return True
    return False


def load(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises VerificationError: json-too-large, json-malformed, json-duplicate-key."""
    if len(data) > LARGEST:
        raise VerificationError("json-too-large", f"{what} is larger than {LARGEST} bytes.")
    if _too_deep(data):
        raise VerificationError("json-malformed", f"{what} is nested deeper than {_DEEPEST} levels.")
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise VerificationError("json-malformed", f"{what} is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise VerificationError("json-malformed", f"{what} is not a JSON object.")
    return found


def canonical(value: Any) -> bytes:
    """Sorted keys, no white space, ASCII: one spelling for each value, so that it can be compared byte by byte."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
