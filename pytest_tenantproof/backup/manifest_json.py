"""manifest.json to and from the Manifest, and the checks that make it consistent in itself."""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

from pytest_tenantproof.backup.format import FORMAT
from pytest_tenantproof.backup.manifest import TEXTS, Archive, Manifest, Segment, run_time
from pytest_tenantproof.errors import FormatError

__all__ = ["manifest_from_json", "manifest_to_json"]

_REMEDY = "use another backup; if this one was not tampered with, report it with its run id."
_SEGMENT = tuple(f.name for f in dataclasses.fields(Segment))


def manifest_to_json(manifest: Manifest) -> bytes:
    """Compact JSON; segments are rows under "segment_fields", their tables and objects by position."""
    data = {f.name: getattr(manifest, f.name) for f in dataclasses.fields(manifest) if f.name != "archives"}
    tables = {t.name: n for n, t in enumerate(manifest.tables)} | TEXTS
    objects = {o.name: n for n, o in enumerate(manifest.objects)}
    data["segment_fields"] = _SEGMENT
    data["archives"] = [
        {
            "tenant": a.tenant,
            "key_object": a.key_object,
            "key_id": a.key_id,
            "segments": [
                [tables[s.table], objects[s.object], *(getattr(s, name) for name in _SEGMENT[2:])] for s in a.segments
            ],
        }
        for a in manifest.archives
    ]
    return json.dumps(data, separators=(",", ":"), sort_keys=True, default=dataclasses.asdict).encode()


def manifest_from_json(body: bytes, *, run: str) -> Manifest:
    """The manifest of `run`, checked for consistency. Raises FormatError.

    Call it with bytes whose signature was verified; see `runs.load_manifest`.
    """
    data = _parsed(body)
    if data.get("schema") != FORMAT:
        raise _bad(f"schema {data.get('schema')!r} is not {FORMAT}")
    if data.get("run") != run or run_time(run) is None:
        raise _bad(f"it is of run {data.get('run')!r}, not {run!r}")
    if data.pop("segment_fields", None) != list(_SEGMENT):
        raise _bad("its segment_fields are not those of this format")
    try:
        tables, objects = ([str(item["name"]) for item in data[kind]] for kind in ("tables", "objects"))
        for archive in data["archives"]:
            archive["segments"] = tuple(_segment(row, tables, objects) for row in archive["segments"])
        manifest: Manifest = _built(Manifest, data, "manifest")
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad(f"it is malformed ({type(error).__name__})") from None
    _check(manifest)
    return manifest


def _bad(reason: str) -> FormatError:
    return FormatError(f"a manifest is refused: {reason}.", remedy=_REMEDY)


def _parsed(body: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _bad("a key occurs twice")
        return found

    try:
        data = json.loads(body, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise _bad("it is not JSON") from None
    if not isinstance(data, dict):
        raise _bad("it is no object")
    return data


_TEXTS = {number: name for name, number in TEXTS.items()}
_ROW = (int, int, int, int, int, int, str, str, str)


def _segment(row: Any, tables: list[Any], objects: list[Any]) -> Segment:
    if not isinstance(row, list) or tuple(map(type, row)) != _ROW:
        raise _bad("a segment does not have the fields of this format")
    table, pack = row[0], row[1]
    if not (-len(_TEXTS) <= table < len(tables) and 0 <= pack < len(objects)):
        raise _bad("a segment is of no table or object listed")
    return Segment(_TEXTS[table] if table < 0 else tables[table], objects[pack], *row[2:])


_BUILT = tuple[Segment, ...]


def _built(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _built(args[0], value, where)
    if hint == _BUILT:
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _bad(f"{where} is not a list")
        return tuple(_built(args[0], item, where) for item in value)
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, where)
    if type(value) is not (dict if origin is dict else hint):
        raise _bad(f"{where} is not of the right type")
    return value


_hints = cache(typing.get_type_hints)


def _record(cls: Any, value: Any, where: str) -> Any:
    hints = _hints(cls)
    if not isinstance(value, dict) or set(value) != set(hints):
        raise _bad(f"{where} does not have exactly the fields of this format")
    return cls(**{name: _built(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})


_HEX = re.compile(r"[0-9a-f]{64}")


def _check(manifest: Manifest) -> None:
    if sum(a.tenant is None for a in manifest.archives) != 1:
        raise _bad("it does not have exactly one archive of global tables")
    if len(manifest.tenants) != len(manifest.archives) - 1:
        raise _bad("a tenant occurs twice")
    for names in (
        [t.name for t in manifest.tables],
        [o.name for o in manifest.objects],
    ):
        if len(set(names)) != len(names):
            raise _bad("a table or object occurs twice")
    if not all(o.name.startswith(f"runs/{manifest.run}/") for o in manifest.objects):
        raise _bad("an object belongs to another run")
    if not all(a.key_object.startswith(f"keys/{manifest.run}/") for a in manifest.archives):
        raise _bad("a key belongs to another run")
    _check_segments(manifest)


def _check_segments(manifest: Manifest) -> None:
    counted = dict.fromkeys((t.name for t in manifest.tables), 0)
    placed: dict[str, list[tuple[int, int]]] = {o.name: [] for o in manifest.objects}
    for archive, segment in _segments(manifest):
        if min(segment.offset, segment.length, segment.rows, segment.bytes) < 0:
            raise _bad("a segment has a negative size")
        if not all(map(_HEX.fullmatch, (segment.sha256, segment.encrypted_sha256, segment.fingerprint))):
            raise _bad("a digest is malformed")
        if segment.table in TEXTS:
            if archive.tenant is not None:
                raise _bad("a tenant's archive holds a schema")
        else:
            counted[segment.table] += segment.rows
        placed[segment.object].append((segment.offset, segment.length))
    for table in manifest.tables:
        if counted[table.name] != table.rows:
            raise _bad(f"{table.name} has {table.rows} rows, but its segments hold {counted[table.name]}")
    for name, places in placed.items():
        end = 0
        for offset, length in sorted(places):
            if offset != end:
                raise _bad(f"the segments of {name} overlap or leave a gap")
            end += length
        if end != manifest.packs[name].size:
            raise _bad(f"the segments of {name} do not fill it")


def _segments(manifest: Manifest) -> Iterator[tuple[Archive, Segment]]:
    for archive in manifest.archives:
        names = [s.table for s in archive.segments]
        if len(set(names)) != len(names):
            raise _bad("a table occurs twice in an archive")
        for segment in archive.segments:
            yield archive, segment
