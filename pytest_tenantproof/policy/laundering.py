"""Functions that make a trusted claim of metadata that users edit themselves.

A trigger on the user table that copies raw_user_meta_data into raw_app_meta_data, or a hook that writes the claims of
a token from user_metadata: the claim is then the user's to choose, whatever its name promises.
"""

import re
from collections.abc import Iterator, Set

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import without_comments

__all__ = ["laundered"]

_EDITABLE = ("raw_user_meta_data", "user_metadata")
_TARGET = re.compile(r"(?:^|\b(?:begin|then|else|loop|set|,)\s+)([\w.\"]+)\s*:?=(?!=)\s*(.+)$", re.I)
_INTO = re.compile(r"\bselect\s+(.+?)\s+into\s+(?:strict\s+)?([\w.]+)", re.I)
_RETURN = re.compile(
    r"(?:^|\b(?:begin|then|else)\s+)(return|select)\s+(.*(?:jsonb_set|jsonb_build_object|\|\|).*)$", re.I
)
_TRUSTED = re.compile(r"\b(raw_app_meta_data|app_metadata|claims|event)\b", re.I)
_PATH = re.compile(r"#>>?\s*'\{([^}']*)\}'")
_LITERAL = re.compile(r"'([^']*)'")


def laundered(function: Function, claims: Set[str]) -> str:
    """What it makes of a user's own metadata: the name of one of the trusted `claims`, "claims" where it copies all of
    it; "" where it does neither."""
    if not any(name in function.body for name in _EDITABLE):
        return ""
    text = _PATH.sub(lambda m: "".join(f" -> '{key}'" for key in m[1].split(",")), without_comments(function.body))
    whole, single = set(_EDITABLE), dict[str, set[str]]()
    for target, value in _assignments(text):
        copied = any(_all_of(name).search(value) for name in whole)
        keys = _keys(value, whole, single)
        if target in ("return", "select") or _TRUSTED.search(target):
            named = sorted(keys & claims)
            if named or (copied and (_TRUSTED.search(target) or _TRUSTED.search(value))):
                return named[0] if named else "claims"
        elif copied:
            whole.add(target)
        elif keys:
            single[target] = keys
    return ""


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """(target, value), in the order of the body; `return` and `select` for what a function gives."""
    for statement in text.split(";"):
        if found := _INTO.search(statement):
            yield found[2].lower(), found[1]
        elif found := _TARGET.search(statement.strip()) or _RETURN.search(statement.strip()):
            yield found[1].lower().strip('"'), found[2]


def _keys(value: str, whole: Set[str], single: dict[str, set[str]]) -> set[str]:
    """The keys that are taken out of the metadata, and those under which the value is put."""
    used = {name for name in single if re.search(rf"(?<![\w.']){re.escape(name)}(?![\w'])", value)}
    if not used and not any(name in value for name in whole):
        return set()
    words = {word for literal in _LITERAL.findall(value) for word in re.findall(r"\w+", literal)}
    return words.union(*(single[name] for name in used))


def _all_of(name: str) -> re.Pattern[str]:
    """The name where no key is taken out of it."""
    return re.compile(rf"(?<![\w]){re.escape(name)}'?(?![\w']|\s*(->|#>|\?|IS\b))", re.I)
