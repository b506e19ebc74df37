"""Triggers that change who the caller is, while the caller's statement runs."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import without_comments

__all__ = ["sets_identity"]

_IDENTITY = ("role", "session_authorization", "session_replication_role", "row_security")
_SETS = re.compile(
    r"\bset_config\s*\(\s*(?:'([^']*)'\s*,|)"
    r"|\bset\s+(?:local\s+|session\s+)?\"?([\w.]+)\"?(?:\s*=|\s+to\b|\s+\w)",
    re.I,
)


def sets_identity(function: Function, trusted_settings: Sequence[str]) -> str:
    """The setting of a trigger function's that policies trust (or one that is named at run time), or ""."""
    for found in _SETS.finditer(without_comments(function.body) if function.returns == "trigger" else ""):
        name = (found[1] or found[2] or "").lower()
        if found[0].lower().startswith("set_config") and not name:
            return "a setting that is named at run time"
        if any(fnmatchcase(name, pattern) for pattern in (*_IDENTITY, *trusted_settings)):
            return name
    return ""
