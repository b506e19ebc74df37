"""Reads aclitems: `grantee=privileges/grantor` (PostgreSQL documentation, "Privileges")."""

from collections.abc import Iterable
from functools import cache

from pytest_tenantproof.catalog.model import PUBLIC, Grant

__all__ = ["PRIVILEGES", "parse_acl"]

PRIVILEGES = {
    "r": "SELECT",
    "a": "INSERT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "m": "MAINTAIN",
    "X": "EXECUTE",
    "U": "USAGE",
    "C": "CREATE",
    "c": "CONNECT",
    "T": "TEMPORARY",
    "s": "SET",
    "A": "ALTER SYSTEM",
}


def parse_acl(items: Iterable[str]) -> tuple[Grant, ...]:
    """The grants in an acl, one for each grantee and privilege, in a fixed order."""
    return _parse(tuple(items))


@cache
def _parse(items: tuple[str, ...]) -> tuple[Grant, ...]:
    grants = (grant for item in items for grant in _item(item))
    return tuple(sorted(grants, key=lambda g: (g.grantee, g.privilege, g.grantor)))


def _item(text: str) -> Iterable[Grant]:
    grantee, rest = _identifier(text)
    letters, _, grantor = rest[1:].partition("/")
    by, _ = _identifier(grantor)
    for at, letter in enumerate(letters):
        if letter != "*":
            grantable = letters[at + 1 : at + 2] == "*"
            yield Grant(grantee or PUBLIC, PRIVILEGES[letter], grantable, by)


def _identifier(text: str) -> tuple[str, str]:
    """The leading role name, unquoted, and what follows it."""
    if not text.startswith('"'):
        name, _, _ = text.partition("=")
        return name, text[len(name) :]
    at = 1
    while text[at] != '"' or text[at + 1 : at + 2] == '"':
        at += 2 if text[at] == '"' else 1
    return text[1:at].replace('""', '"'), text[at + 1 :]
