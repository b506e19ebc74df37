"""Guesses from names, used only to ask for a decision, never to grant one."""

import re
from collections.abc import Mapping
from functools import cache

from pglast.keywords import COL_NAME_KEYWORDS, RESERVED_KEYWORDS, TYPE_FUNC_NAME_KEYWORDS

from pytest_tenantproof.catalog.model import Column, Table

__all__ = ["LOOKUPS", "foreign_key_hints", "quoted", "singular", "snake"]

LOOKUPS = frozenset({"slug", "subdomain", "domain", "hostname", "host", "handle", "code"})
"""Columns of the registry that a request may be resolved to a tenant by."""

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_RESERVED = frozenset(keyword.lower() for keyword in (*RESERVED_KEYWORDS, *TYPE_FUNC_NAME_KEYWORDS, *COL_NAME_KEYWORDS))
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_ID_TYPES = re.compile(r"^(uuid|bigint|integer|smallint|text|character varying.*)(\[\])?$")


def quoted(name: str) -> str:
    """A name as it stands in SQL: as format('%I') writes it."""
    if _PLAIN.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def singular(name: str) -> str:
    """units -> unit, properties -> property, boxes -> box; a name that is no plural stays as it is."""
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("s", "")):
        if name.endswith(ending) and not name.endswith("ss"):
            return name[: -len(ending)] + instead
    return name


def foreign_key_hints(column: Column, tables: Mapping[str, Table]) -> Table | None:
    """The table that a column called `unit_id`, `otherUnitId`, `unit_ref` or `unit_ids` seems to name.

    `tables` by snake() of the singular of their bare names. The longest name that fits wins.
    """
    found = _pointing(column.name)
    if not found or not (_ID_TYPES.match(column.type) or (found[2].endswith("s") and column.type in ("jsonb", "json"))):
        return None
    words = found[1].split("_")
    endings = ("_".join(words[at:]) for at in range(len(words)))
    return next((tables[ending] for ending in endings if ending in tables), None)


@cache
def _pointing(name: str) -> re.Match[str] | None:
    return re.fullmatch(r"(.+)_(ids?|uuids?|refs?|fk)", snake(name))


@cache
def snake(name: str) -> str:
    """projectId and project_id are the same name in two styles."""
    return _HUMP.sub("_", name).lower()
