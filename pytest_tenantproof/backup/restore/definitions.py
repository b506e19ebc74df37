"""Whether the restored database is built as the backed-up one was: its catalog, object by object."""

import re
from dataclasses import replace

from pytest_tenantproof.catalog import Snapshot, from_json, to_json
from pytest_tenantproof.catalog.compare import differences

__all__ = ["changed_definitions"]

# The server writes an IN list over a varchar column in one way, reads it back, and writes it in another: the cast
# of the whole list has moved to its members. Both mean the same, and every dump that is restored meets it.
_LIST = re.compile(r"\(ARRAY\[((?:'(?:[^']|'')*'::character varying(?:, )?)+)\]\)::text\[\]")
_MEMBER = re.compile(r"('(?:[^']|'')*'::character varying)")


def changed_definitions(wanted: Snapshot, found: Snapshot, ignored: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """What of the database is not as it was, in words; schemas in `ignored` aside. Roles, and settings of roles and
    of the database, belong to the server, and are not compared; who owns what, and who may do what with it, is."""
    before, after = _settled(wanted, ignored), _settled(found, ignored)
    schemas = tuple(schema.name for schema in before.schemas)
    return tuple(f"{d.object}: {d.detail}" for d in differences(before, after, schemas, lambda _: False))


def _settled(snapshot: Snapshot, ignored: frozenset[str]) -> Snapshot:
    schemas = tuple(schema for schema in snapshot.schemas if schema.name not in ignored)
    own = replace(snapshot, roles=(), memberships=(), settings=(), schemas=schemas)
    return from_json(_LIST.sub(_moved, to_json(own).decode()).encode())


def _moved(match: re.Match[str]) -> str:
    return "ARRAY[" + _MEMBER.sub(r"(\1)::text", match[1]) + "]"
