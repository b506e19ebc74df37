"""Text that a regular expression accepts: enough for the CHECK constraints that people write."""

import re
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]  # see below
from typing import Any

__all__ = ["sample"]

# The standard library's own parser of patterns: it has no public name, and a second one would read them differently.

_FILL = "abcdefghijklmnopqrstuvwxyz"
_CLASSES = {
    _constants.CATEGORY_DIGIT: "1",
    _constants.CATEGORY_WORD: "a",
    _constants.CATEGORY_SPACE: " ",
    _constants.CATEGORY_NOT_DIGIT: "a",
    _constants.CATEGORY_NOT_WORD: "-",
    _constants.CATEGORY_NOT_SPACE: "a",
}


def sample(pattern: str, turn: int = 0) -> str | None:
    """A short text that matches the pattern, different for different turns where it allows that; None if unknown."""
    spelled = pattern.replace("[[:alnum:]]", "[a-z0-9]").replace("[[:alpha:]]", "[a-z]").replace("[[:digit:]]", "[0-9]")
    spelled = spelled.replace("[:alnum:]", "a-z0-9").replace("[:alpha:]", "a-z").replace("[:digit:]", "0-9")
    spelled = re.sub(r"\\[mM]|\\[<>]", "", spelled)
    try:
        text = "".join(_items(_parser.parse(spelled), turn))
        return text if re.search(spelled, text) else None
    except (re.error, KeyError, NotImplementedError, RecursionError):
        return None


def _items(parsed: Any, turn: int) -> Iterator[str]:
    for kind, value in parsed:
        yield _one(kind, value, turn)


def _one(kind: Any, value: Any, turn: int) -> str:
    if kind is _constants.LITERAL:
        return chr(value)
    if kind is _constants.ANY:
        return _FILL[turn % 26]
    if kind is _constants.NOT_LITERAL:
        return next(c for c in _FILL if ord(c) != value)
    if kind is _constants.IN:
        return _member(value, turn)
    if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
        low, high, inner = value
        count = max(low, min(high, max(low, 3)))
        return "".join("".join(_items(inner, turn // 26**place)) for place in range(count))
    if kind is _constants.SUBPATTERN:
        return "".join(_items(value[3], turn))
    if kind is _constants.BRANCH:
        return "".join(_items(value[1][0], turn))
    if kind is _constants.AT:
        return ""
    if kind is _constants.CATEGORY:
        return _CLASSES[value]
    raise NotImplementedError(kind)


def _member(options: Any, turn: int) -> str:
    if options[0][0] is _constants.NEGATE:
        refused = {chr(v) for k, v in options[1:] if k is _constants.LITERAL}
        ranges = [v for k, v in options[1:] if k is _constants.RANGE]
        allowed = (c for c in _FILL + "0123456789-_ " if c not in refused)
        return next(c for c in allowed if not any(low <= ord(c) <= high for low, high in ranges))
    kind, value = options[0]
    if kind is _constants.RANGE:
        low, high = value
        return chr(low + turn % (high - low + 1))
    return _one(kind, value, turn)
