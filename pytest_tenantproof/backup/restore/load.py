"""Fills the tables: every object of the backup is read once, and each of its tables goes in by one COPY."""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.backup.keyring import KeyRing
from pytest_tenantproof.backup.manifest import (
    CATALOG_TABLE,
    SCHEMA_TABLE,
    TEXTS,
    Archive,
    Manifest,
    PackObject,
    Segment,
)
from pytest_tenantproof.backup.runs import open_stored, read_plain
from pytest_tenantproof.backup.store import Store
from pytest_tenantproof.catalog import Snapshot, from_json
from pytest_tenantproof.errors import FormatError, RestoreError
from pytest_tenantproof.target import connect

__all__ = [
    "SESSION",
    "Source",
    "in_parallel",
    "load_pack",
    "read_catalog",
    "read_pack",
    "read_schema",
    "read_segment",
    "session",
]

SESSION = {
    "synchronous_commit": "off",
    "maintenance_work_mem": "256MB",
    "client_encoding": "UTF8",
    "datestyle": "ISO,YMD",
    "timezone": "UTC",
    "row_security": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "jit": "off",
}
_DAMAGED = "use another copy of the object, or an older backup."


class Source:
    """What of a backup is restored: `skipped` are tenants that were erased."""

    def __init__(self, store: Store, ring: KeyRing, skipped: frozenset[str]) -> None:
        self.store, self.ring, self.skipped = store, ring, skipped
        self.manifest: Manifest = ring.manifest
        self._keys: dict[str | None, bytes] = {}
        self._parts: dict[str, list[tuple[Archive, Segment]]] = {pack.name: [] for pack in self.manifest.objects}
        for archive in self.manifest.archives:
            for segment in archive.segments:
                self._parts[segment.object].append((archive, segment))
        for parts in self._parts.values():
            parts.sort(key=lambda part: part[1].offset)

    def parts(self, pack: PackObject) -> Sequence[tuple[Archive, Segment]]:
        return self._parts[pack.name]

    def unwrap(self) -> None:
        """Every key that will be needed, before anything is changed. Raises BackupError for a missing one."""
        for archive in self.manifest.archives:
            if archive.tenant not in self.skipped:
                self._keys[archive.tenant] = self.ring.key(archive)

    def key(self, archive: Archive) -> bytes:
        return self._keys[archive.tenant]

    def included(self) -> Iterator[Archive]:
        return (a for a in self.manifest.archives if a.tenant not in self.skipped)


class _Stream:
    """The bytes of an object, handed out part by part."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def take(self, size: int) -> Iterator[memoryview]:
        while size:
            piece = self._left or memoryview(next(self._pieces, b""))
            if not piece:
                raise FormatError("an object of the backup ends early.", remedy=_DAMAGED)
            taken, self._left = piece[:size], piece[size:]
            size -= len(taken)
            yield taken

    def skip(self, size: int) -> None:
        for _ in self.take(size):
            pass


def read_pack(source: Source, pack: PackObject) -> Iterator[tuple[Archive, Segment, Iterator[bytes]]]:
    """The segments of an object, each with its COPY text, verified. Exhaust each before the next.

    An archive of a skipped tenant is passed over.
    """
    stream = _Stream(source.store.read(pack.name, version=pack.version))
    for archive, segment in source.parts(pack):
        if archive.tenant in source.skipped:
            stream.skip(segment.length)
        else:
            stored = stream.take(segment.length)
            yield archive, segment, open_stored(stored, source.manifest, archive, segment, source.key(archive))


def read_schema(source: Source) -> str:
    """The schema dump. Raises RestoreError when the backup holds none."""
    segment = source.manifest.shared.segment(SCHEMA_TABLE)
    if segment is None:
        raise RestoreError(
            "the backup holds no schema: no pg_dump of the server's version was found when it was made.",
            remedy="install the matching pg_dump where backups are made.",
        )
    return b"".join(read_segment(source, source.manifest.shared, segment)).decode("utf-8")


def read_catalog(source: Source) -> Snapshot:
    """The catalog as it was when the backup was made. Raises FormatError, CatalogError."""
    shared = source.manifest.shared
    segment = shared.segment(CATALOG_TABLE)
    text = b"".join(read_segment(source, shared, segment)) if segment else b""
    if hashlib.sha256(text).hexdigest() != source.manifest.catalog_sha256:
        raise FormatError("the catalog in the backup is not the one that its manifest names.", remedy=_DAMAGED)
    return from_json(text)


def read_segment(source: Source, archive: Archive, segment: Segment) -> Iterator[bytes]:
    """One segment by itself. Raises FormatError for anything that is not what was backed up."""
    return read_plain(source.store, source.manifest, archive, segment, source.key(archive))


def session(dsn: str) -> psycopg.Connection[Any]:
    return connect(dsn, limits=SESSION)


def load_pack(
    connection: psycopg.Connection[Any], source: Source, pack: PackObject, done: Callable[[int], None]
) -> None:
    """One COPY for each table of the object, so that thousands of small tenants cost few statements."""
    segments = (part for part in read_pack(source, pack))
    for name, parts in groupby(segments, key=lambda part: part[1].table):
        if name in TEXTS:
            for _, _, text in parts:
                _exhaust(text)
            continue
        columns = map(sql.Identifier, source.manifest.table(name).columns)
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.SQL(name), sql.SQL(", ").join(columns))
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for _, segment, text in parts:
                for piece in text:
                    copy.write(piece)
                done(segment.bytes)


def _exhaust(text: Iterator[bytes]) -> None:
    for _ in text:
        pass


def in_parallel(
    dsn: str, work: Sequence[Any], act: Callable[[psycopg.Connection[Any], Any], None], workers: int
) -> None:
    """Does `act` for each item of `work`, in order, on `workers` sessions. The first error ends all, and is raised."""
    waiting, connections, lock = deque(work), list[psycopg.Connection[Any]](), threading.Lock()

    def drain() -> None:
        with session(dsn) as connection:
            with lock:
                connections.append(connection)
            while waiting:
                try:
                    item = waiting.popleft()
                except IndexError:
                    return
                act(connection, item)

    count = max(1, min(workers, len(waiting)))
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(drain) for _ in range(count)]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            waiting.clear()
            with lock:
                for connection in connections:
                    connection.cancel_safe(timeout=5) if not connection.closed else None
            raise
