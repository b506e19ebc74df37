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
    """What reads all fields of a class at once, by name; their names, their defaults (left out of the JSON), and
    whether their values go into the JSON as they are."""
    hints, fields = _hints(cls), sorted(dataclasses.fields(cls), key=lambda field: field.name)
    names = [f.name for f in fields]
    read = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)
    return read, tuple((f.name, f.default, _simple(hints[f.name])) for f in fields)


def _simple(hint: Any) -> bool:
    """Whether values of a type hold no dataclass, however deep."""
    return not dataclasses.is_dataclass(hint) and all(_simple(part) for part in typing.get_args(hint))


class _Plain:
    """Turns what is read into what JSON knows. Equal columns and grants of many tables are one object (as read.py
    makes them), so each object is turned once. Names of fields come sorted."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        """`value` has to live as long as this does."""
        found = self._known.get(id(value))
        if found is None:
            found = self._known[id(value)] = self._turned(value)
        return found

    def _turned(self, value: Any) -> Any:
        if type(value) is tuple:
            return [self(item) for item in value]
        cls: Any = type(value)
        read, fields = _fields(cls)
        return {
            name: item if simple else self(item)
            for (name, default, simple), item in zip(fields, read(value), strict=True)
            if item != default
        }


def to_json(snapshot: Snapshot) -> bytes:
    """Canonical JSON: sorted keys, no white space, ASCII, defaults left out."""
    return json.dumps(_Plain()(snapshot), separators=(",", ":")).encode("ascii")


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
    tables, functions, schemas, plain = snapshot.tables, snapshot.functions, snapshot.schemas, _Plain()
    parts: dict[str, list[Any]] = {
        "roles": [plain(item) for item in (*snapshot.roles, *snapshot.memberships)],
        "policies": [
            [t.name, t.row_security, t.row_security_forced, plain(t.policies)] for t in tables if t.kind != "sequence"
        ],
        "grants": [
            *([t.name, plain(t.grants), [[c.name, plain(c.grants)] for c in t.columns if c.grants]] for t in tables),
            *([f.signature, plain(f.grants)] for f in functions),
            *([s.name, plain(s.grants)] for s in schemas),
            plain(snapshot.default_privileges),
        ],
    }
    return {
        name: hashlib.sha256(json.dumps(part, separators=(",", ":")).encode("ascii")).hexdigest()
        for name, part in parts.items()
    }
