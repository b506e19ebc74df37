"""Walks built files, layer by layer, and says where a credential is. Nothing scanned is never a pass."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_tenantproof.errors import ScanError
from pytest_tenantproof.scan.known import Known
from pytest_tenantproof.scan.layers import Unreadable, embedded, unpacked
from pytest_tenantproof.scan.look import Find, look, look_for_names

__all__ = ["Leak", "Scanned", "contents", "scan", "scan_contents"]

_FRONT_END = frozenset({".js", ".mjs", ".cjs", ".css", ".html", ".htm", ".map", ".wasm", ".json", ".svg"})
_PACKED = frozenset({".gz", ".br", ".zst"})
_DEEPEST = 3

Seen = dict[bytes, tuple[tuple[str, Find], ...]]


@dataclass(frozen=True, slots=True)
class Leak:
    """A credential in a file. `offset` is in bytes, in the innermost of the layers that `inside` names."""

    path: str
    offset: int
    inside: str
    kind: str
    detail: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Scanned:
    files: int
    bytes: int
    leaks: tuple[Leak, ...]


def scan(paths: Sequence[Path], known: Known) -> Scanned:
    """Scans files and folders. Raises ScanError for one that is missing, unreadable or holds no front end."""
    return scan_contents(contents(paths), known)


def contents(paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Every file below `paths` with what is in it. Raises ScanError as scan() does."""
    for path in paths:
        files = _files(path)
        if not any(_front_end(file) for file in files):
            raise ScanError(
                f"{path} holds no built front-end file, so nothing is known of it.",
                remedy="build the front end first, and name the folder it is built into.",
            )
        yield from ((str(file), _read(file)) for file in files)


def scan_contents(files: Iterable[tuple[str, bytes]], known: Known) -> Scanned:
    """Scans files that are in memory, by name and content."""
    leaks: dict[Leak, None] = {}
    seen: Seen = {}
    count = size = 0
    for path, content in files:
        count, size = count + 1, size + len(content)
        for inside, find in _layered(path.rpartition("/")[2], content, known, seen):
            leaks[Leak(path, find.offset, inside, find.kind, find.detail, find.fingerprint)] = None
    return Scanned(count, size, tuple(leaks))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found, visited = [], set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=_unlisted):
        real = os.path.realpath(folder)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        found += [Path(folder, name) for name in sorted(names)]
    return [file for file in found if file.is_file() or file.is_symlink()]


def _unlisted(error: OSError) -> None:
    raise ScanError(f"{error.filename} cannot be read: {error.strerror}.", remedy="check the path and its permissions.")


def _front_end(file: Path) -> bool:
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _PACKED]
    return bool(suffixes) and suffixes[-1] in _FRONT_END


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ScanError(f"{file} cannot be read: {error.strerror}.", remedy="check its permissions.") from None


def _layered(name: str, data: bytes, known: Known, seen: Seen, depth: int = 0) -> Iterator[tuple[str, Find]]:
    """The finds in a file, and in the file that is packed in it."""
    try:
        inner = unpacked(name, data)
    except Unreadable as why:
        yield "", Find(0, "unreadable", f"cannot be scanned: {why}", "")
        return
    if inner is None or not data:
        digest = hashlib.sha256(data).digest() + name.endswith(".map").to_bytes()
        if digest not in seen:
            seen[digest] = tuple(_content(data, known, is_map=name.endswith(".map")))
        yield from seen[digest]
    elif depth == _DEEPEST:
        yield inner[0], Find(0, "unreadable", "cannot be scanned: it is packed too deep", "")
    else:
        shorter = name.rpartition(".")[0] if name.rpartition(".")[2] in ("gz", "br", "zst") else name
        for inside, find in _layered(shorter, inner[1], known, seen, depth + 1):
            yield " > ".join(filter(None, (inner[0], inside))), find


def _content(data: bytes, known: Known, *, is_map: bool) -> Iterator[tuple[str, Find]]:
    yield from (("", find) for find in look(data, known))
    for part in _own_sources(data) if is_map else [("", data)]:
        yield from ((part[0], find) for find in look_for_names(part[1], known))
    yield from _embedded(data, known, "", 1)


def _embedded(data: bytes, known: Known, outer: str, depth: int) -> Iterator[tuple[str, Find]]:
    for how, offset, content in embedded(data):
        inside = f"{outer}{' > ' if outer else ''}{how} at {offset}"
        yield from ((inside, find) for find in look(content, known))
        if depth < _DEEPEST:
            yield from _embedded(content, known, inside, depth + 1)


def _own_sources(data: bytes) -> list[tuple[str, bytes]]:
    """The product's own sources in a source map. What a library's comments talk about is nobody's secret."""
    try:
        found = json.loads(data)
        pairs = list(zip(found["sources"], found["sourcesContent"], strict=True))
        return [(f"source {s}", c.encode()) for s, c in pairs if c and "node_modules/" not in s]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [("", data)]
