"""A folder as a store: for laptops, tests, and a disk that is then taken away. It is never write-once."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from pytest_tenantproof.backup.store.base import Capabilities, Stored, Writer, check_name
from pytest_tenantproof.errors import StoreError

__all__ = ["LocalStore"]

_PARTIAL = ".partial"
_PIECE = 1 << 20
_STALE = 48 * 3600


@contextlib.contextmanager
def _reported(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot {action} {path}: {error.strerror or error}.",
            remedy="check the folder, its permissions and the free space.",
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class LocalStore:
    """Objects are files below `root`: written beside it, synced, read back, then renamed into place."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return self.root.absolute().as_uri()

    def _path(self, name: str) -> Path:
        return self.root / check_name(name)

    def put(self, name: str, data: bytes, *, lock: bool = False, replace: bool = False) -> Stored:
        path = self._path(name)
        if path.exists() and not replace:
            if path.read_bytes() == data:
                return self._described(path)
            raise StoreError(f"{name} exists and differs.", remedy="never reuse a run's name; run again.")
        writer = _LocalWriter(self, name, replace=replace)
        try:
            writer.write(data)
            return writer.commit()
        finally:
            writer.abort()

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda item: self.put(*item), items):
                pass

    def writer(self, name: str, *, lock: bool = False) -> Writer:
        return _LocalWriter(self, name, replace=False)

    def read(self, name: str, *, offset: int = 0, length: int | None = None, version: str = "") -> Iterator[bytes]:
        path = self._path(name)
        with _reported("read", path), path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size - offset if length is None else length
            file.seek(offset)
            while left > 0:
                piece = file.read(min(_PIECE, left))
                if not piece:
                    raise StoreError(f"{name} ends {left} bytes early.", remedy="use another backup.")
                left -= len(piece)
                yield piece

    def head(self, name: str, *, version: str = "") -> Stored | None:
        path = self._path(name)
        with _reported("read", path):
            return self._described(path) if path.is_file() else None

    def _described(self, path: Path, sha256: str = "") -> Stored:
        found = path.stat()
        modified = datetime.fromtimestamp(found.st_mtime, UTC)
        return Stored(path.relative_to(self.root).as_posix(), found.st_size, sha256, modified=modified)

    def versions(self, name: str) -> tuple[Stored, ...]:
        found = self.head(name)
        return (found,) if found else ()

    def list(self, prefix: str = "") -> Iterator[Stored]:
        top = self.root / prefix.rpartition("/")[0]
        if not top.is_dir():
            return
        with _reported("list", top):
            for path in sorted(p for p in top.rglob("*") if p.is_file()):
                name = path.relative_to(self.root).as_posix()
                if name.startswith(prefix) and not name.startswith(_PARTIAL):
                    with contextlib.suppress(FileNotFoundError):
                        yield self._described(path)

    def delete(self, name: str) -> None:
        path = self._path(name)
        with _reported("delete", path):
            path.unlink(missing_ok=True)
            for folder in path.relative_to(self.root).parents:
                with contextlib.suppress(OSError):
                    (self.root / folder).rmdir()

    def delete_older(self, name: str) -> None:
        """A folder keeps no versions."""

    def abort_partial(self, prefix: str) -> int:
        """What is older than two days goes too, whatever its name: nobody writes that long."""
        marker, old = _partial_name(prefix), time.time() - _STALE
        found = [p for p in (self.root / _PARTIAL).glob("*") if p.name.startswith(marker) or _modified(p) < old]
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def capabilities(self) -> Capabilities:
        can_delete = os.access(self.root, os.W_OK) if self.root.exists() else None
        return Capabilities("local", False, can_delete, False, "", "a folder cannot protect its files")

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def free_bytes(self) -> int:
        with _reported("measure", self.root):
            return shutil.disk_usage(self.root).free

    def close(self) -> None:
        """Nothing is held open."""


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _partial_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


class _LocalWriter:
    def __init__(self, store: LocalStore, name: str, *, replace: bool) -> None:
        self._store, self._final, self._replace = store, store._path(name), replace
        folder = store.root / _PARTIAL
        self._part = folder / f"{_partial_name(name)}.{os.getpid()}.{secrets.token_hex(4)}"
        self._digest = hashlib.sha256()
        self._stored: Stored | None = None
        with _reported("create", self._part):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b")

    def write(self, data: bytes) -> None:
        with _reported("write", self._part):
            self._file.write(data)
        self._digest.update(data)

    def commit(self) -> Stored:
        if self._stored is not None:
            return self._stored
        with _reported("write", self._final):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._read_back()
            self._file.close()
            self._final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._place()
            _sync_folder(self._final.parent)
            self._stored = self._store._described(self._final, self._digest.hexdigest())
            return self._stored

    def _read_back(self) -> None:
        self._file.seek(0)
        if hashlib.file_digest(self._file, "sha256").digest() != self._digest.digest():
            raise StoreError(f"{self._final} reads back differently.", remedy="check the disk.")

    def _place(self) -> None:
        if self._replace:
            self._part.replace(self._final)
            return
        try:
            os.link(self._part, self._final)
        except FileExistsError:
            raise StoreError(f"{self._final} exists.", remedy="never reuse a run's name; run again.") from None
        self._part.unlink()

    def abort(self) -> None:
        # Closing writes what is still buffered, which a full disk refuses; it is thrown away in any case.
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)
