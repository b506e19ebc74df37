"""Changes who can read the backups that are there, without touching their data; and makes backup keys."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_tenantproof.backup.crypto import BackupKeypair, Recipient, data_key_id, new_keypair
from pytest_tenantproof.backup.erasure import destroy_keys, erased_tenants
from pytest_tenantproof.backup.keyring import read_keys, wrapped_keys
from pytest_tenantproof.backup.manifest import Archive
from pytest_tenantproof.backup.runs import find_runs, load_manifest
from pytest_tenantproof.backup.store import DeletionDenied, ObjectLocked, Store
from pytest_tenantproof.errors import BackupError, FormatError

__all__ = ["Rewrapped", "rewrap", "write_keypair"]


def write_keypair(folder: Path, name: str) -> tuple[Path, Path, BackupKeypair]:
    """A new backup key: NAME.backup.key (0600, private) and NAME.backup.pub. Never overwrites. Raises BackupError."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = new_keypair()
    paths = folder / f"{name}.backup.key", folder / f"{name}.backup.pub"
    for path, text, mode in zip(paths, (pair.private_text, pair.recipient.text), (0o600, 0o644), strict=True):
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
                out.write(text + "\n")
        except FileExistsError:
            raise BackupError(f"{path} exists.", remedy="choose another name; keys are never overwritten.") from None
    return *paths, pair


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """The backups whose keys were wrapped anew, and the key objects that were written."""

    runs: tuple[str, ...]
    objects: int


def rewrap(
    store: Store,
    key_store: Store,
    trusted: Mapping[str, bytes],
    pair: BackupKeypair,
    recipients: Sequence[Recipient],
    progress: Callable[[int, int], None],
) -> Rewrapped:
    """Wraps every key that `pair` can read to `recipients` and to nobody else; what was erased stays erased.

    A key is checked against the signed manifest before it is wrapped, so that no substitute is passed on. It
    may be repeated; an object that is wrapped to the recipients already is not written again. Raises
    BackupError (a key that `pair` cannot read; an older version that the store keeps), FormatError, StoreError.
    """
    runs = [run for run in find_runs(store) if run.complete]
    done, objects = [], 0
    for number, run in enumerate(runs):
        manifest = load_manifest(store, run.id, trusted)
        archives: dict[str, list[Archive]] = {}
        for archive in manifest.archives:
            archives.setdefault(archive.key_object, []).append(archive)
        written = sum(
            _object(key_store, run.id, name, listed, pair, recipients) for name, listed in sorted(archives.items())
        )
        objects += written
        done += [run.id] if written else []
        progress(number + 1, len(runs))
    for tenant in erased_tenants(store, trusted):
        destroy_keys(key_store, tenant)
    return Rewrapped(tuple(done), objects)


def _object(
    key_store: Store,
    run: str,
    name: str,
    archives: Sequence[Archive],
    pair: BackupKeypair,
    recipients: Sequence[Recipient],
) -> bool:
    """Whether the key object had to be written."""
    wrapped = read_keys(key_store, name, run)
    if set(wrapped.keys) != {archive.tenant for archive in archives}:
        raise FormatError(f"{name} does not hold the keys that its manifest names.", remedy="bring back a whole one.")
    stale = set(wrapped.boxes) != {recipient.id for recipient in recipients}
    if stale:
        keys = wrapped.open(pair)
        for archive in archives:
            _check(keys[archive.tenant], archive)
        key_store.put(name, wrapped_keys(run, keys, recipients).to_json(), replace=True)
    try:
        key_store.delete_older(name)
    except (ObjectLocked, DeletionDenied) as error:
        raise BackupError(
            f"{name} is wrapped anew, but its older version is still there: {error.message}",
            remedy="run this with an identity that may delete in the key store.",
        ) from error
    return stale


def _check(key: bytes | None, archive: Archive) -> None:
    if key is not None and data_key_id(key) != archive.key_id:
        raise FormatError(
            f"{archive.key_object} holds another key than the manifest says.",
            remedy="bring back an older version of it, or give this backup up.",
        )
