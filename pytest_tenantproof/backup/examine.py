"""Which backups of a store are whole: manifest signed by a trusted key, and every object of it in place."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pytest_tenantproof.attest.dsse import open_envelope
from pytest_tenantproof.attest.strictjson import load
from pytest_tenantproof.backup.manifest import PAYLOAD_TYPE, manifest_name
from pytest_tenantproof.backup.runs import Run, find_runs
from pytest_tenantproof.backup.store import Store
from pytest_tenantproof.errors import BackupError, FormatError, StoreError, TenantproofError, VerificationError

__all__ = ["Examined", "Verified", "examine", "examine_all"]

_REMEDY = "take another backup; keep this one for inquiry."


@dataclass(frozen=True, slots=True)
class Verified:
    """A backup whose signature holds and whose objects are all there. `time` is when it began by the clock of
    the machine that made it, `snapshot_at` the database's time of what it holds."""

    run: str
    time: datetime
    snapshot_at: datetime
    target: str
    system_identifier: str
    manifest_sha256: str
    recipients: tuple[str, ...]
    stored_bytes: int = 0
    """Of all its objects, as stored."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The verified backups of one target by time, and the others with the reason."""

    verified: tuple[Verified, ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def newest(self) -> Verified | None:
        return self.verified[-1] if self.verified else None


def examine_all(store: Store, trusted: Mapping[str, bytes], target: str) -> Examined:
    """Every complete run, examined. Unfinished ones are no backups and not listed. Raises StoreError."""
    verified, refused = [], []
    for run in (run for run in find_runs(store) if run.complete):
        try:
            found = examine(store, run, trusted)
        except StoreError:
            raise
        except TenantproofError as error:
            refused.append((run.id, error.message))
            continue
        if found.target == target:
            verified.append(found)
        else:
            refused.append((run.id, f"it is a backup of {found.target!r}"))
    return Examined(tuple(verified), tuple(refused))


def examine(store: Store, run: Run, trusted: Mapping[str, bytes]) -> Verified:
    """Raises FormatError when no version of the manifest verifies, BackupError when an object is not in place;
    StoreError when the store does not answer."""
    body, data = _signed(store, run.id, trusted)
    try:
        if data["run"] != run.id:
            raise FormatError(f"the manifest of backup {run.id} is of another run.", remedy=_REMEDY)
        for pack in data["objects"]:
            _in_place(store, run, pack)
        return Verified(
            run.id,
            run.time,
            datetime.fromisoformat(data["snapshot_at"]),
            str(data["target"]),
            str(data["source"]["system_identifier"]),
            hashlib.sha256(body).hexdigest(),
            tuple(map(str, data["recipients"])),
            sum(int(pack["size"]) for pack in data["objects"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FormatError(f"the manifest of backup {run.id} is malformed.", remedy=_REMEDY) from None


def _signed(store: Store, run: str, trusted: Mapping[str, bytes]) -> tuple[bytes, dict[str, Any]]:
    """The oldest version that verifies, as `load_manifest` takes it, but not built: it may list a million segments."""
    problem = "there is none"
    for version in store.versions(manifest_name(run)):
        body = b"".join(store.read(version.name, version=version.version))
        try:
            return body, load(open_envelope(body, trusted, PAYLOAD_TYPE).payload, "the manifest")
        except VerificationError as error:
            problem = error.message
    raise FormatError(f"the manifest of backup {run} is refused: {problem}", remedy=_REMEDY)


def _in_place(store: Store, run: Run, pack: Mapping[str, Any]) -> None:
    """By the listing; a version that was overlaid or hidden is looked at by itself."""
    name, size, version = str(pack["name"]), pack["size"], str(pack["version"])
    there = run.objects.get(name)
    if there is not None and (there.version != version or there.hidden):
        there = store.head(name, version=version)
    if there is None or there.size != size:
        raise BackupError(f"backup {run.id}: {name} is missing or has another size.", remedy=_REMEDY)
