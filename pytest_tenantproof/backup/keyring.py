"""Wrapped keys: small objects apart from the data, so that rewrap and erasure touch nothing else."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_tenantproof.backup.crypto import BackupKeypair, data_key_id, unwrap
from pytest_tenantproof.backup.manifest import Archive, Manifest
from pytest_tenantproof.backup.naming import key_name
from pytest_tenantproof.backup.store import Store
from pytest_tenantproof.errors import BackupError, FormatError

__all__ = ["KEY_SCHEMA", "KeyRing", "WrappedKeys", "key_objects", "read_keys"]

KEY_SCHEMA = "tenantproof/backup-keys/1"
_DAMAGED = "take an older version of the key object, or another backup."


@dataclass(frozen=True, slots=True)
class WrappedKeys:
    """A key object: by tenant (None: shared), the sealed boxes by recipient id; None where it was erased."""

    run: str
    boxes: Mapping[str | None, Mapping[str, str] | None]

    def to_json(self) -> bytes:
        keys = [{"tenant": tenant, "boxes": boxes} for tenant, boxes in self.boxes.items()]
        data = {"schema": KEY_SCHEMA, "run": self.run, "keys": keys}
        return json.dumps(data, separators=(",", ":"), sort_keys=True, default=dict).encode()


def key_objects(run: str, boxes: Iterable[tuple[str | None, Mapping[str, str]]]) -> dict[str, WrappedKeys]:
    """All key objects of a run, by name."""
    found: dict[str, dict[str | None, Mapping[str, str] | None]] = {}
    for tenant, wrapped in boxes:
        found.setdefault(key_name(run, tenant), {})[tenant] = wrapped
    return {name: WrappedKeys(run, entries) for name, entries in found.items()}


def read_keys(key_store: Store, name: str, run: str) -> WrappedKeys:
    """The key object of that name. Raises FormatError for one that is malformed or of another run."""
    try:
        data = json.loads(b"".join(key_store.read(name)))
        boxes = {entry["tenant"]: _boxes(entry["boxes"]) for entry in data["keys"]}
        right = (data["schema"], data["run"], len(data["keys"])) == (KEY_SCHEMA, run, len(boxes))
        right = right and all(key_name(run, tenant) == name for tenant in boxes)
    except (ValueError, KeyError, TypeError, AttributeError):
        right = False
    if not right:
        raise FormatError(f"{name} is malformed or of another run.", remedy=_DAMAGED)
    return WrappedKeys(run, boxes)


def _boxes(entry: Any) -> dict[str, str] | None:
    if entry is None:
        return None
    if not all(isinstance(part, str) for pair in entry.items() for part in pair):
        raise ValueError("boxes")
    return dict(entry)


@dataclass(slots=True)
class KeyRing:
    """The data keys of one backup, for one private key. Each key object is read once."""

    key_store: Store
    manifest: Manifest
    pair: BackupKeypair = field(repr=False)
    _read: dict[str, WrappedKeys] = field(default_factory=dict, repr=False)

    def key(self, archive: Archive) -> bytes:
        """The archive's data key. Raises BackupError (erased, lost, not a recipient) or FormatError."""
        boxes = self._object(archive.key_object).boxes.get(archive.tenant)
        if boxes is None:
            raise self._absent(archive, "was erased" if archive.tenant in self._erased(archive) else "is not there")
        key = unwrap(boxes, self.pair)
        if data_key_id(key) != archive.key_id:
            raise FormatError(f"{archive.key_object} holds another key than the manifest says.", remedy=_DAMAGED)
        return key

    def erased(self, archive: Archive) -> bool:
        """Whether the archive's key was destroyed on purpose."""
        return archive.tenant in self._erased(archive)

    def _erased(self, archive: Archive) -> set[str | None]:
        return {tenant for tenant, boxes in self._object(archive.key_object).boxes.items() if boxes is None}

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
