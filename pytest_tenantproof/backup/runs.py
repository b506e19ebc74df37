"""The runs that a store holds: which are backups, which are what an interrupted run left behind."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pytest_tenantproof.attest.dsse import open_envelope
from pytest_tenantproof.backup.format import open_segment
from pytest_tenantproof.backup.manifest import (
    PAYLOAD_TYPE,
    Archive,
    Manifest,
    PreviousRun,
    Segment,
    manifest_name,
    run_time,
)
from pytest_tenantproof.backup.manifest_json import manifest_from_json
from pytest_tenantproof.backup.naming import OPEN_SCRIPT
from pytest_tenantproof.backup.store import DeletionDenied, ObjectLocked, Store, Stored
from pytest_tenantproof.errors import BackupError, FormatError, StoreError, VerificationError

__all__ = [
    "Cleaned",
    "Run",
    "clean_unfinished",
    "find_runs",
    "load_manifest",
    "manifest_digest",
    "newest_run",
    "open_stored",
    "read_plain",
    "remove_run",
    "verify_objects",
]

_ABANDONED = timedelta(hours=48)
_THREADS = 16


@dataclass(frozen=True, slots=True)
class Run:
    """One run in a store. It is a backup if `complete`: its manifest, written last, is there."""

    id: str
    time: datetime
    objects: dict[str, Stored] = field(repr=False)

    @property
    def complete(self) -> bool:
        return manifest_name(self.id) in self.objects


def find_runs(store: Store) -> tuple[Run, ...]:
    """All runs by time. Names that are not ours are left alone and not listed."""
    found: dict[str, dict[str, Stored]] = {}
    for stored in store.list("runs/"):
        run = stored.name.split("/")[1]
        if run_time(run) is not None:
            found.setdefault(run, {})[stored.name] = stored
    times = ((run, run_time(run), objects) for run, objects in found.items())
    runs = (Run(run, time, objects) for run, time, objects in times if time is not None)
    return tuple(sorted(runs, key=lambda r: (r.time, r.id)))


def newest_run(store: Store) -> Run | None:
    """The newest complete run, unverified; None when there is none."""
    return next((run for run in reversed(find_runs(store)) if run.complete), None)


def load_manifest(store: Store, run: str, keys: Mapping[str, bytes]) -> Manifest:
    """The manifest of `run`, its signature verified with `keys` (key id -> public key). Where the
    store keeps versions, the oldest that verifies is taken: nothing laid over it later counts.

    Raises BackupError when there is none, FormatError when none verifies.
    """
    versions = store.versions(manifest_name(run))
    if not versions:
        raise BackupError(f"{store.url} has no backup {run}.", remedy="list the runs; an unfinished one is none.")
    problem: Exception | None = None
    for version in versions:
        try:
            envelope = b"".join(store.read(version.name, version=version.version))
            return manifest_from_json(open_envelope(envelope, keys, PAYLOAD_TYPE).payload, run=run)
        except (VerificationError, FormatError) as error:
            problem = problem or error
    raise FormatError(
        f"the manifest of backup {run} is refused: {getattr(problem, 'message', problem)}",
        remedy="verify with the public key that was current then; else take another backup.",
    ) from problem


def manifest_digest(store: Store, run: str) -> PreviousRun:
    """A run and the sha256 of its manifest as stored (oldest version)."""
    oldest = store.versions(manifest_name(run))[0]
    body = b"".join(store.read(oldest.name, version=oldest.version))
    return PreviousRun(run, hashlib.sha256(body).hexdigest())


def verify_objects(store: Store, manifest: Manifest) -> None:
    """Every object of the manifest is there, in its pinned version and size. Raises StoreError."""

    def check(pack: Any) -> None:
        found = store.head(pack.name, version=pack.version)
        if found is None or found.size != pack.size:
            raise StoreError(f"{store.url}/{pack.name} is missing or has another size.", remedy="back up again.")

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(check, manifest.objects):
            pass


def read_plain(store: Store, manifest: Manifest, archive: Archive, segment: Segment, key: bytes) -> Iterator[bytes]:
    """The segment's COPY text, in pieces. Raises FormatError for anything that is not what was backed up.

    That it is complete is known at the end only: commit nothing before the iterator is exhausted.
    """
    version = manifest.packs[segment.object].version
    stored = store.read(segment.object, offset=segment.offset, length=segment.length, version=version)
    yield from open_stored(stored, manifest, archive, segment, key)


def open_stored(
    stored: Iterable[bytes | memoryview], manifest: Manifest, archive: Archive, segment: Segment, key: bytes
) -> Iterator[bytes]:
    """`read_plain` of bytes that were read already."""
    sealed, plain = hashlib.sha256(), hashlib.sha256()
    size = 0

    def seen() -> Iterator[bytes | memoryview]:
        for piece in stored:
            sealed.update(piece)
            yield piece

    for piece in open_segment(seen(), key, manifest.context(archive, segment)):
        plain.update(piece)
        size += len(piece)
        yield piece
    found = (sealed.hexdigest(), plain.hexdigest(), size)
    if found != (segment.encrypted_sha256, segment.sha256, segment.bytes):
        raise FormatError(
            f"backup {manifest.run}: {segment.table} is not what the manifest says.",
            remedy="use another copy of the object, or an older backup.",
        )


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed of unfinished runs: run ids, partial uploads, and the runs that Object Lock, or the lack
    of the right to delete, still keeps."""

    runs: tuple[str, ...] = ()
    uploads: int = 0
    locked: tuple[str, ...] = ()


def clean_unfinished(
    store: Store, key_store: Store, source: dict[str, str], *, now: datetime, keep: str = ""
) -> Cleaned:
    """Removes what interrupted runs left. Call it while holding the backup lock of `source`.

    A run without a manifest is removed when its claim names the same source (which, under the lock, no
    longer runs) or when it is two days old. Names that are not ours are never touched.
    """
    removed, locked, uploads = [], [], store.abort_partial(OPEN_SCRIPT)
    for run in find_runs(store):
        if run.complete or run.id == keep or not _abandoned(store, run, source, now):
            continue
        uploads += store.abort_partial(f"runs/{run.id}/") + key_store.abort_partial(f"keys/{run.id}/")
        if remove_run(store, key_store, run):
            removed.append(run.id)
        else:
            locked.append(run.id)
    return Cleaned(tuple(removed), uploads, tuple(locked))


def claim(run: str, source: dict[str, str]) -> bytes:
    """The first object of a run: whose it is, should it be left unfinished."""
    return json.dumps({"run": run, "source": source}, sort_keys=True).encode()


def claim_name(run: str) -> str:
    return f"runs/{run}/claim.json"


def _abandoned(store: Store, run: Run, source: dict[str, str], now: datetime) -> bool:
    if now - run.time > _ABANDONED:
        return True
    try:
        data = json.loads(b"".join(store.read(claim_name(run.id))))
    except (StoreError, ValueError):
        return False
    known = source.get("system_identifier", "unknown") != "unknown"
    return known and isinstance(data, dict) and data.get("source") == source


def remove_run(store: Store, key_store: Store, run: Run) -> bool:
    """Removes a run: its manifest first, so that at no moment half of it looks like a backup; its claim last,
    so that what an interruption leaves is found again. False when Object Lock, or the lack of the right to
    delete, keeps some of it. Raises StoreError."""
    first, last = manifest_name(run.id), claim_name(run.id)
    if first in run.objects and not _deleted(store, first):
        return False
    whole = True
    for name in sorted(run.objects.keys() - {first, last}):
        whole = _deleted(store, name) and whole
    keys = [stored.name for stored in key_store.list(f"keys/{run.id}/")]
    with ThreadPoolExecutor(_THREADS) as pool:
        for done in pool.map(lambda name: _deleted(key_store, name), keys):
            whole = whole and done
    return whole and _deleted(store, last)


def _deleted(store: Store, name: str) -> bool:
    with contextlib.suppress(ObjectLocked, DeletionDenied):
        store.delete(name)
        return True
    return False


def utcnow() -> datetime:
    return datetime.now(UTC)
