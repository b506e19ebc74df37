"""A value for a column of any type, as SQL. The server is the judge: what it refuses is tried otherwise."""

import itertools
import re
import secrets
import uuid
from collections.abc import Iterator

from pytest_tenantproof.catalog.model import Column, Snapshot, Type
from pytest_tenantproof.probes.samples import sample

__all__ = ["Values", "ident", "literal"]

_LENGTH = re.compile(r"\((\d+)(?:,\d+)?\)")
_FIXED = {
    "boolean": "true",
    "json": "'{}'",
    "jsonb": "'{}'",
    "cidr": "'10.0.0.0/8'",
    "macaddr": "'08:00:2b:01:02:03'",
    "macaddr8": "'08:00:2b:01:02:03:04:05'",
    "point": "'(0,0)'",
    "line": "'{1,2,3}'",
    "lseg": "'[(0,0),(1,1)]'",
    "box": "'((1,1),(0,0))'",
    "path": "'((0,0),(1,1))'",
    "polygon": "'((0,0),(1,1),(1,0))'",
    "circle": "'<(0,0),1>'",
    "tsvector": "'a'",
    "tsquery": "'a'",
    "xml": "'<a/>'",
    "pg_lsn": "'0/0'",
    "jsonpath": "'$'",
    "regclass": "'pg_class'",
    "regtype": "'text'",
    "regrole": "'pg_monitor'",
}
_SPREAD = 36**5
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TEXT = ("text", "character varying", "character", "citext", "name", "bpchar")
_WHOLE = ("integer", "bigint", "smallint", "numeric", "real", "double precision", "money", "oid")
_POWERS = ("owner", "OWNER", "admin", "ADMIN", "administrator")
_QUOTED = re.compile(r"'((?:[^']|'')*)'(?:::([a-z][a-z ]*)(\[\])?)?")
_NUMBER = re.compile(r"(?<![\w.'])-?\d+(?:\.\d+)?(?![\w'])")
_REGEX = re.compile(r"(!?)~\*?\s+\(?'((?:[^']|'')*)'")
_LIKE = re.compile(r"(?<!!)~~\*?\s+\(?'((?:[^']|'')*)'")


def literal(text: str) -> str:
    """A quoted SQL literal (standard_conforming_strings)."""
    return "'" + text.replace("'", "''") + "'"


def ident(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _text(number: int) -> str:
    """Short, and not likely to be anybody else's."""
    digits = ""
    while number:
        number, last = divmod(number, 36)
        digits = _DIGITS[last] + digits
    return f"tp{digits:0>5}"


class Values:
    """Makes values; each is different from the one before where the type allows it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._types: dict[str, Type] = {t.name: t for t in snapshot.types}
        self._bare = {t.name.rpartition(".")[2]: t for t in snapshot.types}
        self._first = secrets.randbelow(_SPREAD)
        self._count = itertools.count(self._first)

    def fresh(self, type_: str, *, distinct: bool = False) -> str:
        """SQL of a new value of that type; a `distinct` one is no other session's at the same time, nor there yet."""
        number = next(self._count)
        if type_.endswith("[]"):
            return f"ARRAY[{self.fresh(type_[:-2], distinct=distinct)}]::{type_}"
        found = self._types.get(type_) or self._bare.get(type_.partition("(")[0])
        if found is not None:
            return self._user_defined(found, type_)
        base = type_.partition("(")[0].strip()
        if base in _FIXED:
            return f"{_FIXED[base]}::{type_}"
        # Small numbers please more checks, and days that follow each other those that compare two.
        plain = base == "date" or (base in _WHOLE and not distinct)
        return f"{self._built_in(base, type_, number - self._first + 1 if plain else number)}::{type_}"

    def _built_in(self, base: str, type_: str, number: int) -> str:
        size = _LENGTH.search(type_)
        if base == "uuid":
            return f"'{uuid.uuid4()}'"
        if base == "bytea":
            return rf"'\x{number:012x}'"
        if base.rpartition(".")[2] in _TEXT:
            text = _text(number)
            return literal(text if size is None else text[-int(size[1]) :])
        if base in _WHOLE:
            return f"{number % (30_000 if base == 'smallint' else _SPREAD * 30)}" if size is None else f"{number % 9}"
        if base == "date":
            return f"(now() + interval '{number % 28} days')"
        if base.startswith("timestamp"):
            return f"(now() + interval '{number} milliseconds')"
        if base.startswith("time"):
            return f"'00:{number // 60 % 60:02}:{number % 60:02}'"
        if base == "interval":
            return f"'{number} seconds'"
        if base == "inet":
            return f"'10.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}'"
        if base.startswith("bit"):
            return f"repeat('1', {size[1] if size else 1})::bit({size[1] if size else 1})"
        return self._range(base, number) if base.endswith("range") else self._unknown(base, size)

    @staticmethod
    def _range(base: str, number: int) -> str:
        if base.startswith(("int", "num")):
            plain = f"[{number * 2},{number * 2 + 1})"
        else:
            day = f"{2000 + number // 336 % 900}-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}"
            plain = f"[{day},{day} 12:00)" if base.startswith("ts") else f"[{day},{day}]"
        return f"'{{{plain}}}'" if base.endswith("multirange") else f"'{plain}'"

    @staticmethod
    def _unknown(base: str, size: re.Match[str] | None) -> str:
        """Extension types: a vector by its length; of others, the empty value."""
        if base.rpartition(".")[2] in ("vector", "halfvec"):
            return literal("[" + ",".join(["0"] * int(size[1] if size else 3)) + "]")
        return "''"

    def _user_defined(self, found: Type, type_: str) -> str:
        if found.kind == "enum":
            return f"{literal(found.labels[0])}::{type_}" if found.labels else "NULL"
        if found.kind == "domain":
            options = [v for check in found.checks for v in self.solutions(check, found.base)]
            return f"({next(iter(options), self.fresh(found.base))})::{type_}"
        if found.kind == "composite":
            parts = ", ".join(self.fresh(attribute.partition(" ")[2]) for attribute in found.attributes)
            return f"ROW({parts})::{type_}"
        if found.kind == "range":
            low = self.fresh(found.base)
            return f"{found.name}({low}, NULL)"
        return "NULL"

    def power(self, type_: str, checks: list[str]) -> str | None:
        """The mightiest of the roles that an enum, or the checks of a text, allow; None where none is named."""
        found = self._types.get(type_) or self._bare.get(type_)
        labels = set(found.labels) if found else {text for check in checks for text, _, _ in _QUOTED.findall(check)}
        return next((f"{literal(name)}::{type_}" for name in _POWERS if name in labels), None)

    def solutions(self, check: str, type_: str) -> Iterator[str]:
        """Values that a CHECK's text suggests for a column of that type, likely ones first."""
        base = self._base(type_)
        turn = next(self._count)
        if base == "bytea":
            sizes = sorted({int(n) for n in _NUMBER.findall(check) if n.isdigit() and int(n) < 10_000})
            yield from (rf"'\x{turn:0{2 * size}x}'::bytea" for size in sizes if size)
        elif base.rpartition(".")[2].startswith(_TEXT):
            for negated, pattern in _REGEX.findall(check):
                if not negated and (text := sample(pattern.replace("''", "'"), turn)) is not None:
                    yield literal(text)
            for pattern in _LIKE.findall(check):
                yield literal(pattern.replace("''", "'").replace("%", _text(turn)).replace("_", "a"))
            yield from self._literals(check)
            for size in sorted({int(n) for n in _NUMBER.findall(check) if n.isdigit() and int(n) < 10_000}):
                yield from (literal(("tp" + "x" * size)[: size + more]) for more in (0, 1, -1) if size + more > 0)
            yield from (literal(text) for text in ("", "a", "A", "1", "a@example.com", "https://example.com", "EUR"))
        elif base.startswith(_WHOLE):
            numbers = sorted({float(n) for n in _NUMBER.findall(check)} | {0.0, 1.0})
            yield from (f"{n + more:g}" for n in numbers for more in (0, 1, -1))
        elif base == "date" or base.startswith("timestamp"):
            yield from (f"(now() {sign} interval '40 days')::{base}" for sign in "-+")
            yield from self._literals(check)
        else:
            yield from self._literals(check)
        yield f"NULL::{type_}"

    @staticmethod
    def _literals(check: str) -> Iterator[str]:
        for text, _, array in _QUOTED.findall(check):
            if array and text.startswith("{"):
                yield from (literal(part.strip('"')) for part in text[1:-1].split(",") if part)
            else:
                yield literal(text.replace("''", "'"))

    def _base(self, type_: str) -> str:
        found = self._types.get(type_)
        while found is not None and found.kind == "domain":
            type_, found = found.base, self._types.get(found.base)
        return type_

    def column(self, column: Column, *, distinct: bool = False) -> str | None:
        """A new value for a column that needs one; None where a default or NULL will do."""
        domain = self._types.get(column.type) or self._bare.get(column.type)
        needed = column.not_null or bool(domain and domain.not_null and not domain.default)
        if column.default or column.generated or column.identity or not needed:
            return None
        return self.fresh(column.type, distinct=distinct)
