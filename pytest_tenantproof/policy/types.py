"""Casts: which of them keep different values different (PostgreSQL documentation, "Data Types")."""

import re
from typing import Any

from pytest_tenantproof.policy.terms import Apply, Claim, Col, Const, NotUnderstood, Opaque, Term
from pytest_tenantproof.policy.world import World

__all__ = ["cast", "is_array", "never_equal", "type_name"]

_ALIASES = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "int": "integer",
    "bool": "boolean",
    "character varying": "varchar",
    "decimal": "numeric",
}
_TEXT = frozenset({"text", "varchar"})
_JSON = frozenset({"json", "jsonb"})
_WIDER = {
    "smallint": {"integer", "bigint", "numeric"},
    "integer": {"bigint", "numeric", "smallint"},
    "bigint": {"numeric", "integer", "smallint"},
}
_TO_TEXT = frozenset({"uuid", "smallint", "integer", "bigint", "text", "varchar", "citext", "bpchar", "boolean"})
_FROM_CLAIM = _TEXT | {"uuid", "smallint", "integer", "bigint", "boolean"}
_UUID = re.compile(r"[{]?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}[}]?", re.I)
_INTEGER = re.compile(r"\s*[+-]?[0-9_]+\s*|0[xob].*", re.I)


def type_name(node: Any) -> str:
    """The name of a cast's type. Raises NotUnderstood where a length or precision may cut the value."""
    if node.typmods:
        raise NotUnderstood("casts to a type with a length, which may cut the value")
    parts = [part.sval for part in node.names]
    if len(parts) > 1 and parts[0] == "pg_catalog":
        parts = parts[1:]
    name = ".".join(parts)
    return _ALIASES.get(name, name)


def is_array(node: Any) -> bool:
    return bool(node.arrayBounds)


def cast(world: World, term: Term, node: Any) -> Term:
    """The term after a cast; Opaque where two values could become one."""
    if is_array(node):
        return term if isinstance(term, Const) else Opaque("casts to an array")
    try:
        target = _plain(world, type_name(node))
    except NotUnderstood as error:
        return Opaque(str(error))
    if isinstance(term, Const | Opaque):
        return (
            term if target in _FROM_CLAIM | _JSON | {"numeric", "name"} or isinstance(term, Opaque) else _lossy(target)
        )
    if isinstance(term, Claim):
        return _cast_claim(term, target)
    if isinstance(term, Col):
        return term if _keeps(world, _plain(world, term.type), target) else _lossy(target)
    return term if _keeps_computed(term, target) else _lossy(target)


def _plain(world: World, type_: str) -> str:
    base = world.base_type(type_)
    base = base.partition("(")[0] if base.startswith(("character varying", "varchar")) else base
    return _ALIASES.get(base, base)


def _lossy(target: str) -> Opaque:
    return Opaque(f"casts to {target}, which may make different values equal")


def _cast_claim(term: Claim, target: str) -> Term:
    if target in _JSON:
        return Claim(term.root, term.path, json=True)
    if term.json and target in _TEXT | {"uuid"}:
        return Opaque("casts a JSON claim, which keeps its quotes: use ->>")
    return Claim(term.root, term.path) if target in _FROM_CLAIM else _lossy(target)


def _keeps(world: World, source: str, target: str) -> bool:
    if source == target or target in _WIDER.get(source, ()):
        return True
    if target in _TEXT:
        return source in _TO_TEXT or world.is_enum(source)
    # Another spelling of the same uuid is the same tenant only where tenants are uuids.
    return target == "uuid" and source in _TEXT and _registry_key(world) == "uuid"


def _registry_key(world: World) -> str:
    table = world.by_name.get(world.settings.tenant_table)
    column = table.column(world.tenant_column(table) or "") if table else None
    return column.type if column else ""


def _keeps_computed(term: Apply, target: str) -> bool:
    return target in _TEXT | {"uuid"} and term.name != "->"


def never_equal(world: World, left: Term, right: Term) -> bool:
    """Whether two terms can be told apart for certain: two constants, or one that the type cannot hold."""
    if isinstance(right, Col):
        left, right = right, left
    if isinstance(left, Const) and isinstance(right, Const):
        return left.value is None or right.value is None
    if isinstance(left, Col) and isinstance(right, Const) and right.value is not None:
        type_ = _plain(world, left.type)
        if type_ == "uuid":
            return not _UUID.fullmatch(right.value)
        return type_ in _WIDER and not _INTEGER.fullmatch(right.value)
    return False
