"""Which objects a change of the catalog concerns, and whether a finding names one of them.

One rule for the benchmark and for the tests of negative controls: a control that is red for another reason than what
was broken explains nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import fields as dataclass_fields
from typing import Any

from pytest_tenantproof.catalog.model import Snapshot
from pytest_tenantproof.model import Finding

__all__ = ["changed", "names"]


def changed(before: Snapshot, after: Snapshot) -> frozenset[str]:
    """Names of what differs: objects, what they belong to, roles, settings."""
    found: set[str] = set()
    for part in dataclass_fields(Snapshot):
        old, new = getattr(before, part.name), getattr(after, part.name)
        if not isinstance(old, tuple):
            found |= {part.name} if old != new else set()
            continue
        for item in set(old) ^ set(new):
            found |= set(_labels(part.name, item))
    return frozenset(name for name in found if name)


_LABELS = ("name", "signature", "role", "member", "owner", "server", "user", "table", "schema", "oid")


def _labels(part: str, item: Any) -> Iterator[str]:
    if part in ("memberships", "default_privileges", "user_mappings", "settings"):
        yield from (
            str(v)
            for a in ("role", "member", "owner", "schema", "server", "user", "name")
            if (v := getattr(item, a, ""))
        )
        yield from ("database", "default privileges") if part in ("settings", "default_privileges") else ()
        return
    if part == "casts":
        yield f"cast ({item.source} AS {item.target})"
    yield str(getattr(item, "signature", "") or getattr(item, "name", "") or getattr(item, "oid", ""))
    yield from getattr(item, "parents", ())


def names(finding: Finding, concerned: frozenset[str]) -> bool:
    """Whether the finding names one of them, as a whole word."""
    texts = (finding.object, finding.detail, finding.role or "")
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) for name in concerned for text in texts)
