"""The small language that policies are reduced to: terms, facts about them, and disjunctions of facts.

A term stands for a value *or NULL*: an equality holds only where both sides are not NULL, so NULL is left
out everywhere except where a null-safe comparison asks (`Equal.strict`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

__all__ = [
    "FALSE",
    "TRUE",
    "Alt",
    "Apply",
    "Atom",
    "Claim",
    "Closure",
    "Col",
    "Conj",
    "Const",
    "Dnf",
    "Equal",
    "NotNull",
    "NotUnderstood",
    "Opaque",
    "Term",
    "Unknown",
    "both",
    "either",
    "given",
]

_LIMIT = 512


class NotUnderstood(Exception):
    """A construct whose meaning is not modelled; the message says which. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Col:
    """A column of one row of a FROM item; alias 0 is the row that the policy guards."""

    alias: int
    name: str
    type: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a trusted setting holds, at a JSON path. `json` where it is still JSON, not text."""

    root: str
    path: tuple[str, ...] = ()
    json: bool = False

    def __str__(self) -> str:
        return ".".join(self.path) or self.root


@dataclass(frozen=True, slots=True)
class Const:
    """A constant as text; None is NULL."""

    value: str | None


@dataclass(frozen=True, slots=True)
class Apply:
    """A function without side effects of other terms; equal arguments give equal values."""

    name: str
    args: tuple["Term", ...] = ()


@dataclass(frozen=True, slots=True)
class Opaque:
    """Any value at all, and why it is not known better."""

    reason: str


Term = Col | Claim | Const | Apply | Opaque


@dataclass(frozen=True, slots=True)
class Equal:
    """left = right; not `strict` where two NULLs count as equal."""

    left: Term
    right: Term
    strict: bool = True
    source: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class NotNull:
    """The term is not NULL."""

    term: Term
    source: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A condition that tells nothing about the tenant, and why."""

    reason: str
    source: Any = field(default=None, compare=False, repr=False)


Atom = Equal | NotNull | Unknown
Conj = tuple[Atom, ...]
Dnf = tuple[Conj, ...]

TRUE: Dnf = ((),)
FALSE: Dnf = ()


@dataclass(frozen=True, slots=True)
class Alt:
    """One thing a value may be, and the facts that then hold."""

    term: Term
    given: Conj = ()

    def under(self, facts: Conj) -> "Alt":
        return replace(self, given=(*self.given, *facts)) if facts else self


def either(parts: Iterable[Dnf]) -> Dnf:
    """OR. Raises NotUnderstood when it grows past what is worth following."""
    found = dict.fromkeys(conj for part in parts for conj in part)
    if len(found) > _LIMIT:
        raise NotUnderstood("has too many alternatives")
    return tuple(found)


def both(parts: Iterable[Dnf]) -> Dnf:
    """AND. Raises NotUnderstood when it grows past what is worth following."""
    result = TRUE
    for part in parts:
        if part == TRUE:
            continue
        if len(result) * len(part) > _LIMIT:
            raise NotUnderstood("has too many alternatives")
        pairs = product(result, part)
        result = tuple(dict.fromkeys((*a, *(x for x in b if x not in a)) for a, b in pairs))
    return result


def given(alts: Iterable[Alt], facts: Dnf) -> tuple[Alt, ...]:
    """The alternatives, each under each way in which the facts can hold."""
    found = dict.fromkeys(alt.under(conj) for alt in alts for conj in facts)
    if len(found) > _LIMIT:
        raise NotUnderstood("has too many alternatives")
    return tuple(found)


class Closure:
    """Which terms are equal when all facts of a conjunction hold (union-find)."""

    def __init__(self, facts: Conj, not_null: Iterable[Term] = ()) -> None:
        self._parent: dict[Term, Term] = {}
        known = set(not_null)
        later = []
        for fact in facts:
            if isinstance(fact, NotNull):
                known.add(fact.term)
            elif isinstance(fact, Equal) and fact.strict:
                self.merge(fact.left, fact.right)
                known |= {fact.left, fact.right}
            elif isinstance(fact, Equal):
                later.append(fact)
        for fact in later:
            if fact.left in known or fact.right in known:
                self.merge(fact.left, fact.right)

    def find(self, term: Term) -> Term:
        while (parent := self._parent.get(term, term)) != term:
            term = parent
        return term

    def merge(self, left: Term, right: Term) -> bool:
        """Makes two terms equal; says whether that was news. Unknown values equal nothing."""
        if isinstance(left, Opaque) or isinstance(right, Opaque):
            return False
        self._parent.setdefault(left, left)
        self._parent.setdefault(right, right)
        a, b = self.find(left), self.find(right)
        if a == b:
            return False
        self._parent[a] = b
        return True

    def same(self, left: Term, right: Term) -> bool:
        return self.find(left) == self.find(right)

    def members(self, term: Term) -> Iterator[Term]:
        """Every term known to equal this one, itself first."""
        yield term
        root = self.find(term)
        yield from (other for other in self._parent if other != term and self.find(other) == root)

    def columns(self) -> tuple[Col, ...]:
        return tuple(term for term in self._parent if isinstance(term, Col))
