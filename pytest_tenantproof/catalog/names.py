"""Guesses from names, used only to ask for a decision, never to grant one."""

import re
from collections.abc import Mapping

from pytest_tenantproof.catalog.model import Column, Table

__all__ = ["foreign_key_hints", "singular"]

_ID_TYPES = re.compile(r"^(uuid|bigint|integer|smallint|text|character varying.*)(\[\])?$")


def singular(name: str) -> str:
    """units -> unit, properties -> property, boxes -> box; a name that is no plural stays as it is."""
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("s", "")):
        if name.endswith(ending) and not name.endswith("ss"):
            return name[: -len(ending)] + instead
    return name


def foreign_key_hints(column: Column, tables: Mapping[str, Table]) -> Table | None:
    """The table that a column called `unit_id`, `other_unit_id`, `unit_ref` or `unit_ids` seems to name.

    `tables` by the singular of their bare names. The longest name that fits wins.
    """
    found = re.fullmatch(r"(.+)_(ids?|uuids?|refs?|fk)", column.name)
    if not found or not (_ID_TYPES.match(column.type) or (found[2].endswith("s") and column.type in ("jsonb", "json"))):
        return None
    words = found[1].split("_")
    endings = ("_".join(words[at:]) for at in range(len(words)))
    return next((tables[ending] for ending in endings if ending in tables), None)
