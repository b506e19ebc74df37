"""Triggers that change who the caller is, while the caller's statement runs."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import without_comments

__all__ = ["sets_identity"]

_IDENTITY = ("role", "session_authorization", "authorization", "session_replication_role", "row_security")
_SETS = re.compile(
    r"\bset_config\s*\(\s*(?:'([^']*)'\s*,|)"
    r"|(?:^|[;'$>]|\b(?:begin|then|else|loop))\s*set\s+(?:local\s+|session\s+)?\"?([\w.]+|%)",
    re.I,
)
"""A call, or a statement's first word: the SET of an UPDATE follows a table's name."""


def sets_identity(function: Function, trusted_settings: Sequence[str]) -> str:
    """The setting of a trigger function's that policies trust (or one that is named at run time), or ""."""
    for found in _SETS.finditer(without_comments(function.body) if function.returns == "trigger" else ""):
        name = (found[1] or found[2] or "").lower()
        if name in ("", "%"):
            return "a setting that is named at run time"
        if any(fnmatchcase(name, pattern) for pattern in (*_IDENTITY, *trusted_settings)):
            return name
    return ""
