"""Erasure of one tenant from immutable backups: its keys are destroyed, and a signed list remembers it.

The list is needed after a restore of a backup taken before the erasure was carried out in the database, and
for copies of key objects that somebody kept: what is on it is not brought back.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from pytest_tenantproof.attest.dsse import envelope, open_envelope
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.attest.strictjson import load
from pytest_tenantproof.backup.keyring import WrappedKeys, read_keys
from pytest_tenantproof.backup.manifest import run_time
from pytest_tenantproof.backup.naming import key_name
from pytest_tenantproof.backup.store import DeletionDenied, ObjectLocked, Store
from pytest_tenantproof.errors import BackupError, FormatError, VerificationError

__all__ = ["ERASURE_TYPE", "Erased", "destroy_keys", "erase_tenant", "erased_tenants", "runs_with_key"]

ERASURE_TYPE = "application/vnd.tenantproof.erasure+json"
_SCHEMA = "tenantproof/erasure/1"
_FOLDER = "erasures/"


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did: the entry on the list, and the runs whose key of this tenant was destroyed by it."""

    tenant: str
    entry: str
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    sha256: str
    tenant: str
    at: datetime
    previous: tuple[tuple[str, str], ...]


def erased_tenants(store: Store, trusted: Mapping[str, bytes]) -> Mapping[str, datetime]:
    """Every tenant on the erasure list, and since when (UTC). `trusted` is key id -> public key.

    Raises FormatError when an entry is forged, damaged or missing: then nothing may be restored, since one
    cannot tell whom to leave out. An entry cut off the end of the list cannot be noticed; Object Lock is
    what keeps entries from being deleted.
    """
    found: dict[str, datetime] = {}
    for entry in _entries(store, trusted):
        found.setdefault(entry.tenant, entry.at)
    return MappingProxyType(found)


def _entries(store: Store, trusted: Mapping[str, bytes]) -> tuple[_Entry, ...]:
    names = [stored.name for stored in store.list(_FOLDER)]
    entries = tuple(_read(store, name, trusted) for name in names)
    there = {(entry.name, entry.sha256) for entry in entries}
    if any(before not in there for entry in entries for before in entry.previous):
        raise FormatError(
            f"an entry of the erasure list in {store.url}/{_FOLDER} is missing or was replaced.",
            remedy="bring it back from an older version or a copy of the store.",
        )
    return entries


def _read(store: Store, name: str, trusted: Mapping[str, bytes]) -> _Entry:
    """The oldest version that verifies: nothing laid over it later counts."""
    for version in store.versions(name):
        body = b"".join(store.read(name, version=version.version))
        try:
            data = load(open_envelope(body, trusted, ERASURE_TYPE).payload, name)
            if data["schema"] != _SCHEMA or data["name"] != name:
                continue
            at = datetime.fromisoformat(data["at"])
            previous = tuple((before["name"], before["sha256"]) for before in data["previous"])
            return _Entry(name, hashlib.sha256(body).hexdigest(), str(data["tenant"]), at, previous)
        except (VerificationError, ValueError, KeyError, TypeError):
            continue
    raise FormatError(
        f"{store.url}/{name} is no erasure signed by a trusted key.",
        remedy="list the key of that time in trusted_keys; remove the object only if you know who put it there.",
    )


def runs_with_key(key_store: Store, tenant: str) -> tuple[str, ...]:
    """The runs that still hold a key of this tenant."""
    return tuple(run for run, keys in _key_objects(key_store, tenant) if keys.keys.get(tenant) is not None)


def _key_objects(key_store: Store, tenant: str) -> Iterator[tuple[str, WrappedKeys]]:
    for name in [stored.name for stored in key_store.list("keys/") if not stored.hidden]:
        run = name.split("/")[1]
        if run_time(run) is not None and name == key_name(run, tenant):
            yield run, read_keys(key_store, name, run)


def erase_tenant(
    store: Store, key_store: Store, tenant: str, *, signer: Signer, trusted: Mapping[str, bytes], now: datetime
) -> Erased:
    """Puts the tenant on the signed list, then destroys its key in every run, with all older versions.

    May be repeated: what an interrupted one left is done then. Another erasure at the same time, whose writing of a
    shared key object may have brought this key back or had its own brought back by this one, is carried out again by
    whichever ends last. Raises BackupError as `destroy_keys` does;
    StoreError, FormatError.
    """
    entries = _entries(store, trusted)
    on_list = next((entry.name for entry in entries if entry.tenant == tenant), None)
    entry = on_list or _enter(store, tenant, entries, signer, now)
    runs = destroy_keys(key_store, tenant)
    for other in erased_tenants(store, trusted):
        if other != tenant and key_name("", other) == key_name("", tenant):
            destroy_keys(key_store, other)
    return Erased(tenant, entry, runs)


def destroy_keys(key_store: Store, tenant: str) -> tuple[str, ...]:
    """Destroys the tenant's key in every run, with all older versions; the runs in which it still was.

    Raises BackupError when a store keeps older versions of a key object: then the tenant is not erased yet.
    """
    done, kept = [], []
    for run, keys in list(_key_objects(key_store, tenant)):
        if tenant not in keys.keys:
            continue
        name = key_name(run, tenant)
        if keys.keys[tenant] is not None:
            key_store.put(name, keys.without(tenant).to_json(), replace=True)
            done.append(run)
        try:
            key_store.delete_older(name)
        except (ObjectLocked, DeletionDenied) as error:
            kept.append(f"{run}: {error.message}")
    if kept:
        raise BackupError(
            f"tenant {tenant} is not erased yet: older versions of {len(kept)} key objects remain ({kept[0]})",
            remedy="keep keys in a key_store without Object Lock, and run this with an identity that may delete.",
        )
    return tuple(done)


def _enter(store: Store, tenant: str, entries: tuple[_Entry, ...], signer: Signer, now: datetime) -> str:
    name = f"{_FOLDER}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.json"
    body = {
        "schema": _SCHEMA,
        "name": name,
        "tenant": tenant,
        "at": now.astimezone(UTC).isoformat(),
        "previous": [{"name": entry.name, "sha256": entry.sha256} for entry in entries[-1:]],
    }
    signed = envelope(json.dumps(body, sort_keys=True, separators=(",", ":")).encode(), signer, ERASURE_TYPE)
    store.put(name, signed, lock=True)
    return name
