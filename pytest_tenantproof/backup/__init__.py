"""Backups: format, crypto, stores, manifest, retention, keys; and their restore and drill."""

from pytest_tenantproof.backup.crypto import BackupKeypair, Recipient, parse_private, parse_recipient
from pytest_tenantproof.backup.events import BackupFailed
from pytest_tenantproof.backup.keyring import KeyRing
from pytest_tenantproof.backup.manifest import Archive, Manifest, Segment, manifest_name
from pytest_tenantproof.backup.run import BackupRequest, BackupResult, run_backup
from pytest_tenantproof.backup.runs import (
    Run,
    find_runs,
    load_manifest,
    newest_run,
    read_plain,
    verify_objects,
)
from pytest_tenantproof.backup.store import Store, StoreSpec, key_store_spec, open_store, store_spec

__all__ = [
    "Archive",
    "BackupFailed",
    "BackupKeypair",
    "BackupRequest",
    "BackupResult",
    "KeyRing",
    "Manifest",
    "Recipient",
    "Run",
    "Segment",
    "Store",
    "StoreSpec",
    "find_runs",
    "key_store_spec",
    "load_manifest",
    "manifest_name",
    "newest_run",
    "open_store",
    "parse_private",
    "parse_recipient",
    "read_plain",
    "run_backup",
    "store_spec",
    "verify_objects",
]
