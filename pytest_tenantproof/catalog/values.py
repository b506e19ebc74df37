"""Values of PL/pgSQL variables as far as they can be known, and SQL's three-valued logic on them.

A value is NULL (None), a constant, a Token, a Record, a row's JSON, or UNKNOWN. A truth is True, False, None (NULL) or
UNKNOWN, which may be any of the three.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, Union

__all__ = [
    "UNKNOWN",
    "Json",
    "Record",
    "Token",
    "Truth",
    "Unknown",
    "Value",
    "all_of",
    "any_of",
    "differ",
    "equal",
    "negated",
]


class Unknown(Enum):
    UNKNOWN = "unknown"
    SHADOWED = "shadowed"
    """Of a variable whose name is declared twice: which of the two is meant is not followed."""


UNKNOWN = Unknown.UNKNOWN


@dataclass(frozen=True, slots=True)
class Token:
    """Some value that is not NULL. Two of one family are the same if they have one name, and differ otherwise;
    nothing is known of two families. Casts to `types` leave it what it is."""

    family: str
    name: str
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A row: what is known of some of its fields, and of each `rest`."""

    fields: tuple[tuple[str, "Value"], ...] = ()
    rest: Unknown | None = UNKNOWN

    def get(self, name: str) -> "Value":
        return next((value for field, value in self.fields if field == name), self.rest)

    def put(self, name: str, value: "Value") -> "Record":
        kept = tuple(pair for pair in self.fields if pair[0] != name)
        return Record(tuple(sorted((*kept, (name, value)), key=lambda pair: pair[0])), self.rest)


@dataclass(frozen=True, slots=True)
class Json:
    """to_jsonb() of a row."""

    of: Record


Truth: TypeAlias = bool | Unknown | None
Value: TypeAlias = Union[Token, Record, Json, str, int, bool, Unknown, None]  # noqa: UP007  (names classes in quotes)


def negated(truth: Truth) -> Truth:
    return not truth if isinstance(truth, bool) else truth


def all_of(parts: Iterable[Truth]) -> Truth:
    """AND: one that is false decides; UNKNOWN may be false, so it comes before NULL."""
    return _combined(tuple(parts), decisive=False)


def any_of(parts: Iterable[Truth]) -> Truth:
    return _combined(tuple(parts), decisive=True)


def _combined(parts: Sequence[Truth], *, decisive: bool) -> Truth:
    if any(part is decisive for part in parts):
        return decisive
    if UNKNOWN in parts:
        return UNKNOWN
    return None if None in parts else not decisive


def equal(left: Value, right: Value) -> Truth:
    """`=`: NULL where either side is."""
    if left is None or right is None:
        return None
    same = _same(left, right)
    return UNKNOWN if same is None else same


def differ(left: Value, right: Value) -> Truth:
    """IS DISTINCT FROM."""
    if left is None and right is None:
        return False
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if left is None or right is None:
        # A row of NULLs is no NULL to IS DISTINCT FROM, but nobody needs to know.
        return UNKNOWN if isinstance(left, Record) or isinstance(right, Record) else True
    if isinstance(left, Record) and isinstance(right, Record):
        names = {name for name, _ in (*left.fields, *right.fields)}
        return True if any(differ(left.get(n), right.get(n)) is True for n in names) else UNKNOWN
    same = _same(left, right)
    return UNKNOWN if same is None else not same


def _same(left: Value, right: Value) -> bool | None:
    match left, right:
        case Token(), Token() if left.family == right.family:
            return left.name == right.name
        case Record(), Record():
            names = {name for name, _ in (*left.fields, *right.fields)}
            return False if any(equal(left.get(n), right.get(n)) is False for n in names) else None
        case Json(), Json():
            return False if differ(left.of, right.of) is True else None
        case (str(), str()) | (bool(), bool()):
            return left == right
        case int(), int() if not isinstance(left, bool) and not isinstance(right, bool):
            return left == right
    return None
