"""Wrapped keys: small objects apart from the data, so that rewrap and erasure touch nothing else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_tenantproof.backup.crypto import (
    BackupKeypair,
    Recipient,
    data_key_id,
    new_data_key,
    open_key,
    seal_key,
    unwrap,
    wrap,
)
from pytest_tenantproof.backup.manifest import Archive, Manifest
from pytest_tenantproof.backup.naming import key_name
from pytest_tenantproof.backup.store import Store
from pytest_tenantproof.errors import BackupError, FormatError

__all__ = ["KEY_SCHEMA", "KeyRing", "WrappedKeys", "key_context", "key_objects", "read_keys", "wrapped_keys"]

KEY_SCHEMA = "tenantproof/backup-keys/2"
_DAMAGED = "take an older version of the key object, or another backup."


@dataclass(frozen=True, slots=True)
class WrappedKeys:
    """A key object: its wrapping key in a box for each recipient id, and under it, by tenant (None: shared), the data
    keys; None where one was erased."""

    run: str
    boxes: Mapping[str, str]
    keys: Mapping[str | None, str | None]

    def to_json(self) -> bytes:
        keys = [{"tenant": tenant, "key": key} for tenant, key in self.keys.items()]
        data = {"schema": KEY_SCHEMA, "run": self.run, "boxes": dict(self.boxes), "keys": keys}
        return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()

    def without(self, tenant: str) -> "WrappedKeys":
        """The same with this tenant's key destroyed: nothing else holds it."""
        return WrappedKeys(self.run, self.boxes, {**self.keys, tenant: None})

    def open(self, pair: BackupKeypair) -> dict[str | None, bytes | None]:
        """The data keys. Raises BackupError for a key that is no recipient, FormatError for a damaged object."""
        wrapping = unwrap(self.boxes, pair)
        return {tenant: self.open_one(wrapping, tenant) for tenant in self.keys}

    def open_one(self, wrapping: bytes, tenant: str | None) -> bytes | None:
        """One data key, by the opened wrapping key. Raises FormatError."""
        sealed = self.keys.get(tenant)
        return None if sealed is None else open_key(wrapping, sealed, key_context(self.run, tenant))


def key_context(run: str, tenant: str | None) -> bytes:
    """What a wrapped data key is bound to."""
    return json.dumps([KEY_SCHEMA, run, tenant], separators=(",", ":")).encode()


def wrapped_keys(run: str, keys: Mapping[str | None, bytes | None], recipients: Sequence[Recipient]) -> WrappedKeys:
    """The keys under a fresh wrapping key for these recipients; None stays what was erased. Raises FormatError."""
    wrapping = new_data_key()
    sealed = {t: None if key is None else seal_key(wrapping, key, key_context(run, t)) for t, key in keys.items()}
    return WrappedKeys(run, wrap(wrapping, recipients), sealed)


def key_objects(run: str, keys: Mapping[str | None, bytes], recipients: Sequence[Recipient]) -> dict[str, WrappedKeys]:
    """All key objects of a run, by name."""
    found: dict[str, dict[str | None, bytes | None]] = {}
    for tenant, key in keys.items():
        found.setdefault(key_name(run, tenant), {})[tenant] = key
    return {name: wrapped_keys(run, entries, recipients) for name, entries in found.items()}


def read_keys(key_store: Store, name: str, run: str) -> WrappedKeys:
    """The key object of that name. Raises FormatError for one that is malformed or of another run."""
    try:
        data = json.loads(b"".join(key_store.read(name)))
        keys = {entry["tenant"]: entry["key"] for entry in data["keys"]}
        boxes = dict(data["boxes"])
        right = (data["schema"], data["run"], len(data["keys"])) == (KEY_SCHEMA, run, len(keys))
        right = right and all(isinstance(key, str | None) for key in keys.values())
        right = right and all(isinstance(part, str) for pair in boxes.items() for part in pair)
        right = right and all(key_name(run, tenant) == name for tenant in keys)
    except (ValueError, KeyError, TypeError, AttributeError):
        right = False
    if not right:
        raise FormatError(f"{name} is malformed or of another run.", remedy=_DAMAGED)
    return WrappedKeys(run, boxes, keys)


@dataclass(slots=True)
class KeyRing:
    """The data keys of one backup, for one private key. Each key object is read once."""

    key_store: Store
    manifest: Manifest
    pair: BackupKeypair = field(repr=False)
    _read: dict[str, WrappedKeys] = field(default_factory=dict, repr=False)
    _wrapping: dict[str, bytes] = field(default_factory=dict, repr=False)

    def key(self, archive: Archive) -> bytes:
        """The archive's data key. Raises BackupError (erased, lost, not a recipient) or FormatError."""
        wrapped = self._object(archive.key_object)
        if wrapped.keys.get(archive.tenant) is None:
            raise self._absent(archive, "was erased" if archive.tenant in wrapped.keys else "is not there")
        if archive.key_object not in self._wrapping:
            self._wrapping[archive.key_object] = unwrap(wrapped.boxes, self.pair)
        key = wrapped.open_one(self._wrapping[archive.key_object], archive.tenant)
        if key is None or data_key_id(key) != archive.key_id:
            raise FormatError(f"{archive.key_object} holds another key than the manifest says.", remedy=_DAMAGED)
        return key

    def erased(self, archive: Archive) -> bool:
        """Whether the archive's key was destroyed on purpose."""
        keys = self._object(archive.key_object).keys
        return archive.tenant in keys and keys[archive.tenant] is None

    def _object(self, name: str) -> WrappedKeys:
        if name not in self._read:
            self._read[name] = read_keys(self.key_store, name, self.manifest.run)
        return self._read[name]

    def _absent(self, archive: Archive, what: str) -> BackupError:
        whose = "the global tables" if archive.tenant is None else f"tenant {archive.tenant}"
        return BackupError(
            f"backup {self.manifest.run}: the key of {whose} {what}.",
            remedy="see the erasure list; without the key nobody can read this archive.",
        )
