"""What a backup needs of an object store, whatever it is: one Protocol, one conformance suite."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pytest_tenantproof.errors import StoreError

__all__ = [
    "Capabilities",
    "DeletionDenied",
    "ObjectLocked",
    "Store",
    "StoreSpec",
    "Stored",
    "Writer",
    "check_name",
    "version_of",
]

_NAME = re.compile(r"(?!/)(?:(?!\.{1,2}(?:/|$))[A-Za-z0-9._~@=+-]+(?:/|$))+(?<!/)")


class ObjectLocked(StoreError):
    """The store keeps the object until a date: not a fault, and not to be worked around."""


class DeletionDenied(StoreError):
    """This identity may not delete, as it should be for one that only backs up."""


def check_name(name: str) -> str:
    """`name`, if it stays below the store's root on every kind of store. Raises StoreError."""
    if not _NAME.fullmatch(name) or len(name) > 512:
        raise StoreError(f"object name {name[:80]!r} is not allowed.", remedy="report this: names are ours.")
    return name


def version_of(answer: Mapping[str, Any]) -> str:
    """The version that S3's answer names; "" where the bucket keeps none, which some servers call null."""
    version = str(answer.get("VersionId", ""))
    return "" if version == "null" else version


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store describes it. `sha256` is "" where the store does not tell; `version` is ""
    where it keeps none; `locked_until` is Object Lock's date; `hidden` means deleted by a marker only."""

    name: str
    size: int
    sha256: str = ""
    version: str = ""
    modified: datetime | None = None
    locked_until: datetime | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the store was seen to do. None is "could not be established", which is never "yes".

    `write_once`: a locked probe object withstood its own writer. `can_delete`: this identity may delete.
    `host` is where the data is: a host name, or "" for the machine that runs this.
    """

    kind: str
    write_once: bool | None
    can_delete: bool | None
    versioned: bool | None
    host: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """All that is needed to open a store, in any process. Credentials come from the environment."""

    url: str
    endpoint: str = ""
    region: str = ""
    checksums: str = "sha256"
    lock_mode: str = ""
    lock_days: int = 0


class Writer(Protocol):
    """One object being written: there only after `commit`; `abort` leaves nothing. Both may be repeated."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> Stored: ...

    def abort(self) -> None: ...


class Store(Protocol):
    """Objects by name. Every method raises StoreError; names are checked by `check_name`.

    An object appears whole or not at all, and only when its bytes were verified: by the server against a
    checksum sent with them, or (local folder) by reading them back. Locked objects raise ObjectLocked, and an
    identity without the right to delete DeletionDenied.
    """

    @property
    def url(self) -> str: ...

    def put(self, name: str, data: bytes, *, lock: bool = False, replace: bool = False) -> Stored:
        """Writes a small object. An existing one is an error unless `replace` or it has the same content."""
        ...

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Writes many small objects, unlocked."""
        ...

    def writer(self, name: str, *, lock: bool = False) -> Writer:
        """Writes a large object as a stream; memory stays bounded."""
        ...

    def read(self, name: str, *, offset: int = 0, length: int | None = None, version: str = "") -> Iterator[bytes]:
        """The bytes of an object or of a range of it, exactly; a short object is an error."""
        ...

    def head(self, name: str, *, version: str = "") -> Stored | None:
        """The object's description, or None when there is none."""
        ...

    def versions(self, name: str) -> tuple[Stored, ...]:
        """All versions kept of the object, oldest first; the one there is where the store keeps none."""
        ...

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Objects whose name starts with `prefix`, in order of name, those hidden by a marker too."""
        ...

    def delete(self, name: str) -> None:
        """Removes every version, the newest first. An object that is not there is no error."""
        ...

    def delete_older(self, name: str) -> None:
        """Removes every version but the newest, so that what was overwritten is gone."""
        ...

    def abort_partial(self, prefix: str) -> int:
        """Removes what interrupted writers left under `prefix`; returns how many uploads that were."""
        ...

    def capabilities(self) -> Capabilities:
        """Finds out by trying, with a probe object of its own. What cannot be found out is None."""
        ...

    def clock(self) -> datetime:
        """The store's own time, UTC."""
        ...

    def close(self) -> None: ...
