"""Reads tenantproof.toml (or [tool.tenantproof] in pyproject.toml); unknown or mistyped keys fail."""

import dataclasses
import hashlib
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pytest_tenantproof.config.settings import Settings
from pytest_tenantproof.errors import ConfigError

__all__ = ["find_config", "load_settings", "settings_from"]


def find_config(start: Path) -> Path | None:
    """The nearest tenantproof.toml, or pyproject.toml with [tool.tenantproof], at or above `start`."""
    for folder in (start, *start.parents):
        if (folder / "tenantproof.toml").is_file():
            return folder / "tenantproof.toml"
        project = folder / "pyproject.toml"
        if project.is_file() and "[tool.tenantproof" in project.read_text(encoding="utf-8"):
            return project
    return None


def load_settings(path: Path | None, *, root: Path | None = None) -> Settings:
    """Settings from `path`; the defaults when it is None. Raises ConfigError, naming key and line."""
    if path is None:
        return settings_from("", source="(defaults)", root=root or Path.cwd())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}.", remedy="check the path given to --evidence-config."
        ) from error
    return settings_from(text, source=str(path), root=path.resolve().parent)


def settings_from(text: str, *, source: str, root: Path) -> Settings:
    """Settings from TOML text. `root` is what relative paths in it are relative to."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not valid TOML: {error}.", remedy="mend the line named.") from error
    if source.endswith("pyproject.toml"):
        data = data.get("tool", {})
    elif extra := sorted(set(data) - {"tenantproof"}):
        raise _bad(source, text, extra[0], "is not a section of this file", "use [tenantproof]")
    table = data.get("tenantproof", {})
    digest = hashlib.sha256(text.encode()).hexdigest()
    loaded: Settings = _build(Settings, table, _Where(source, text, "tenantproof"))
    return dataclasses.replace(loaded, root=root, source=source, digest=digest)


@dataclasses.dataclass(frozen=True, slots=True)
class _Where:
    source: str
    text: str
    path: str

    def at(self, key: str) -> "_Where":
        return dataclasses.replace(self, path=f"{self.path}.{key}")

    @property
    def key(self) -> str:
        return self.path.rpartition(".")[2]


def _bad(source: str, text: str, path: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"{source}:{_line_of(text, path)}: {path} {problem}.", remedy=f"{remedy}.")


def _line_of(text: str, path: str) -> int:
    """The line of the key, looked for in its own section first."""
    section, _, key = path.rpartition(".")
    lines, at = text.splitlines(), 0
    header = re.compile(r"^\s*\[+\s*(?:tool\.)?" + re.escape(re.sub(r"\[\d+\]", "", section)) + r"\s*\]+")
    index = re.search(r"\[(\d+)\]$", section)
    skip = int(index[1]) if index else 0
    for number, line in enumerate(lines):
        if header.match(line):
            at = number
            if skip == 0:
                break
            skip -= 1
    wanted = re.compile(rf"^\s*(?:\[.*\b)?[\"']?{re.escape(key)}[\"']?\s*(?:=|\.|\])|[{{,]\s*{re.escape(key)}\s*=")
    order = (*range(at, len(lines)), *range(at))
    return next((number + 1 for number in order if wanted.search(lines[number])), at + 1)


def _build(cls: type[Any], table: object, where: _Where) -> Any:
    if not isinstance(table, dict):
        raise _bad(where.source, where.text, where.path, "must be a table", f"write it as [{where.path}]")
    hints = typing.get_type_hints(cls)
    fields = {f.name.rstrip("_"): f for f in dataclasses.fields(cls) if not f.metadata.get("internal")}
    for key in table:
        if key not in fields:
            known = ", ".join(sorted(fields))
            raise _bad(where.source, where.text, f"{where.path}.{key}", "is unknown", f"known keys: {known}")
    for key, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and key not in table:
            raise _bad(where.source, where.text, where.path, f"lacks {key}", f"add {key} = ...")
    return cls(**{fields[k].name: _value(hints[fields[k].name], v, where.at(k)) for k, v in table.items()})


def _value(hint: Any, value: object, where: _Where) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value not in args:
            raise _mistyped(where, value, "one of " + ", ".join(map(repr, args)))
        return value
    if origin in (typing.Union, types.UnionType):
        return _value(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple:
        return _tuple(args[0], value, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _mistyped(where, value, "a table")
        return {k: _value(args[1], v, where.at(k)) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        kind: Any = hint
        return _build(kind, value, where)
    return _scalar(hint, value, where)


def _tuple(hint: Any, value: object, where: _Where) -> tuple[Any, ...]:
    if isinstance(value, str) and hint is str:
        return (value,)
    if not isinstance(value, list):
        raise _mistyped(where, value, "a list")
    indexed = (dataclasses.replace(where, path=f"{where.path}[{n}]") for n in range(len(value)))
    return tuple(_value(hint, item, at) for item, at in zip(value, indexed, strict=True))


def _scalar(hint: Any, value: object, where: _Where) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        names = {
            str: "a string",
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            date: "a date",
        }
        raise _mistyped(where, value, names.get(hint, str(hint)))
    return value


def _mistyped(where: _Where, value: object, wanted: str) -> ConfigError:
    shown = type(value).__name__
    return _bad(where.source, where.text, where.path, f"must be {wanted}, not {shown}", "correct the value")
