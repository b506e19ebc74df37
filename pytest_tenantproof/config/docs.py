"""Writes docs/CONFIGURATION.md from the shapes of the configuration.

python -m pytest_tenantproof.config.docs docs/CONFIGURATION.md
"""

import ast
import dataclasses
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pytest_tenantproof.config.settings import Settings

__all__ = ["main", "page"]

_HEAD = """<!-- Written by `make docs` from the code; a test keeps it in step. -->

# Configuration

`tenantproof.toml`, or `[tool.tenantproof]` in `pyproject.toml`: the nearest one at or above the folder you are in, or
the one that `--evidence-config` or `--config` names. A key that is unknown or of the wrong type is an error that names
it and its line. Secrets come from the environment alone: [.env.example](../.env.example) lists its variables.

`tenantproof init` writes a commented file from what it finds in a database.
"""
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", date: "date"}


def page() -> str:
    """The whole page: a section for each table of the file, a row for each key."""
    return _HEAD + "".join(f"\n{section}" for section in _sections(Settings, "tenantproof", "[tenantproof]"))


def _sections(shape: type[Any], path: str, head: str) -> Iterator[str]:
    hints, said = typing.get_type_hints(shape), _docstrings(shape)
    rows, inner = [], []
    for item in (f for f in dataclasses.fields(shape) if not f.metadata.get("internal")):
        key, hint = item.name.rstrip("_"), hints[item.name]
        table, shown = _table(hint, f"{path}.{key}")
        if table is not None:
            inner += list(_sections(table, f"{path}.{key}", shown))
        else:
            rows.append(f"| `{key}` | {_type(hint)} | {_default(item)} | {said.get(item.name, '')} |")
    keys = "\n".join(["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows])
    intro = (inspect.getdoc(shape) or "").partition(": ")[2].replace("\n", " ")
    yield f"## {head}\n\n" + (f"{intro[:1].upper()}{intro[1:]}\n\n" if intro else "") + f"{keys}\n"
    yield from inner


def _table(hint: Any, path: str) -> tuple[type[Any] | None, str]:
    """The shape of a table within, and how its header is written; None for a plain value."""
    arguments = typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return typing.cast(type[Any], hint), f"[{path}]"
    if arguments and dataclasses.is_dataclass(arguments[0]):
        return typing.cast(type[Any], arguments[0]), f"[[{path}]]"
    if len(arguments) == 2 and dataclasses.is_dataclass(arguments[1]):
        return typing.cast(type[Any], arguments[1]), f"[{path}.NAME]"
    return None, ""


def _docstrings(shape: type[Any]) -> dict[str, str]:
    """The text below each field, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(shape))).body
    found, last = {}, ""
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found[last] = " ".join(str(node.value.value).split()).replace("|", "\\|")
    return found


def _type(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" if value else "empty" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return _type(next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"table of {_type(arguments[1])}"
    return _WORDS[hint]


def _default(item: "dataclasses.Field[Any]") -> str:
    if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
        return "required"
    value = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    if value is None or isinstance(value, bool):
        return "none" if value is None else f"`{str(value).lower()}`"
    text = ", ".join(value) if isinstance(value, tuple) else str(value or "") if isinstance(value, dict) else str(value)
    return f"`{text}`" if text else "empty"


def main() -> None:
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
