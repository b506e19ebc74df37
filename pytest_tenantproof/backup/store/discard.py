"""The store of a dry run: everything is read, compressed, encrypted and counted; nothing is kept."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from pytest_tenantproof.backup.store.base import Capabilities, Stored, Writer
from pytest_tenantproof.errors import StoreError

__all__ = ["DiscardStore"]


class _DiscardWriter:
    def __init__(self, name: str) -> None:
        self._name, self._size, self._digest = name, 0, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._size += len(data)
        self._digest.update(data)

    def commit(self) -> Stored:
        return Stored(self._name, self._size, self._digest.hexdigest())

    def abort(self) -> None:
        """Nothing was kept."""


class DiscardStore:
    url = "discard:"

    def put(self, name: str, data: bytes, *, lock: bool = False, replace: bool = False) -> Stored:
        return Stored(name, len(data), hashlib.sha256(data).hexdigest())

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        for _ in items:
            pass

    def writer(self, name: str, *, lock: bool = False) -> Writer:
        return _DiscardWriter(name)

    def read(self, name: str, *, offset: int = 0, length: int | None = None, version: str = "") -> Iterator[bytes]:
        raise StoreError(f"a dry run kept no {name}.", remedy="run without --dry-run.")

    def head(self, name: str, *, version: str = "") -> Stored | None:
        return None

    def versions(self, name: str) -> tuple[Stored, ...]:
        return ()

    def list(self, prefix: str = "") -> Iterator[Stored]:
        return iter(())

    def delete(self, name: str) -> None:
        """There is nothing to delete."""

    def delete_older(self, name: str) -> None:
        """There is nothing to delete."""

    def abort_partial(self, prefix: str) -> int:
        return 0

    def capabilities(self) -> Capabilities:
        return Capabilities("discard", False, False, False, "", "a dry run keeps nothing")

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def close(self) -> None:
        """Nothing is held open."""
