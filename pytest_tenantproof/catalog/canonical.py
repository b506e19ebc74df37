"""Snapshot <-> canonical JSON. The same database always gives the same bytes."""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any

from pytest_tenantproof.catalog.model import Snapshot
from pytest_tenantproof.errors import CatalogError

__all__ = ["digest", "from_json", "part_digests", "to_json"]


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@cache
def _fields(cls: Any) -> tuple[Callable[[Any], tuple[object, ...]], tuple[tuple[str, object, bool], ...]]:
    """What reads all fields of a class at once; their names, their defaults (left out of the JSON), and whether their
    values go into the JSON as they are."""
    hints, fields = _hints(cls), dataclasses.fields(cls)
    names = [f.name for f in fields]
    read = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)
    return read, tuple((f.name, f.default, _simple(hints[f.name])) for f in fields)


def _simple(hint: Any) -> bool:
    """Whether values of a type hold no dataclass, however deep."""
    return not dataclasses.is_dataclass(hint) and all(_simple(part) for part in typing.get_args(hint))


def _plain(value: Any) -> Any:
    if type(value) is tuple:
        return [_plain(item) for item in value]
    cls: Any = type(value)
    read, fields = _fields(cls)
    return {
        name: item if simple else _plain(item)
        for (name, default, simple), item in zip(fields, read(value), strict=True)
        if item != default
    }


def to_json(snapshot: Snapshot) -> bytes:
    """Canonical JSON: sorted keys, no white space, ASCII, defaults left out."""
    return json.dumps(_plain(snapshot), sort_keys=True, separators=(",", ":")).encode("ascii")


def digest(snapshot: Snapshot) -> str:
    """sha256 of the canonical JSON, as hex."""
    return hashlib.sha256(to_json(snapshot)).hexdigest()


def _typed(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) is tuple:
        arguments = typing.get_args(hint)
        if arguments[-1] is Ellipsis:
            return tuple(_typed(arguments[0], item) for item in value)
        return tuple(_typed(kind, item) for kind, item in zip(arguments, value, strict=True))
    if dataclasses.is_dataclass(hint):
        cls: Any = hint
        hints = _hints(cls)
        return cls(**{key: _typed(hints[key], item) for key, item in value.items()})
    if hint is float and isinstance(value, int):
        return float(value)
    if type(value) is not hint:
        raise TypeError(f"{value!r} is not {hint}")
    return value


def from_json(data: bytes) -> Snapshot:
    """The inverse of `to_json`. Raises CatalogError when the data is not a snapshot."""
    try:
        snapshot: Snapshot = _typed(Snapshot, json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CatalogError(
            f"this is not a catalog snapshot: {error}.",
            remedy="record it again with `tenantproof init --lock`.",
        ) from error
    return snapshot


def part_digests(snapshot: Snapshot) -> dict[str, str]:
    """sha256 of what is most often changed by hand: roles with their memberships, policies with the switches of
    row security, and every grant."""
    tables, functions, schemas = snapshot.tables, snapshot.functions, snapshot.schemas
    parts: dict[str, list[Any]] = {
        "roles": [_plain(item) for item in (*snapshot.roles, *snapshot.memberships)],
        "policies": [
            [t.name, t.row_security, t.row_security_forced, _plain(t.policies)] for t in tables if t.kind != "sequence"
        ],
        "grants": [
            *([t.name, _plain(t.grants), [[c.name, _plain(c.grants)] for c in t.columns if c.grants]] for t in tables),
            *([f.signature, _plain(f.grants)] for f in functions),
            *([s.name, _plain(s.grants)] for s in schemas),
            _plain(snapshot.default_privileges),
        ],
    }
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
        for name, part in parts.items()
    }
