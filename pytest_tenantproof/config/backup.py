"""The shape of [tenantproof.backup]. Every field is a key; its docstring line is its documentation."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["BackupSettings"]


@dataclass(frozen=True, slots=True)
class BackupSettings:
    """[tenantproof.backup]"""

    store: str = ""
    """Where backups go: s3://bucket/prefix, b2://bucket/prefix (Backblaze), or a folder."""
    key_store: str = ""
    """Where the wrapped keys go; default: `store`. It must allow deletion, or nothing can be erased."""
    endpoint: str = ""
    """URL of an S3 server other than Amazon's; b2:// finds its own from `region`."""
    region: str = ""
    """Region of the bucket, e.g. eu-central-1, or eu-central-003 at Backblaze."""
    checksums: Literal["", "sha256", "md5"] = ""
    """What the server verifies uploads by; default: md5 for b2://, else sha256."""
    lock_mode: Literal["", "governance", "compliance"] = ""
    """Object Lock mode for data and manifests; empty leaves it to the bucket's default."""
    lock_days: int = 0
    """For how many days Object Lock protects a backup."""
    recipients: tuple[str, ...] = ()
    """Public keys (tpbpub1:...) that can read backups."""
    escrow: tuple[str, ...] = ()
    """Further public keys that can read them, whose private keys are held elsewhere for the day the others are lost."""
    trusted_keys: tuple[str, ...] = ()
    """Public signing keys (PEM files) whose manifests count, beside the key in use; relative to the config file."""
    private_key_file: str = ""
    """Where `restore` finds the private key. The machine that backs up must not have it."""
    workers: int = 2
    """Processes that read, compress and encrypt; 0 does it in the calling process."""
    level: int = 1
    """zstd level."""
    max_minutes: int = 240
    """A backup that takes longer is ended and reported."""
    lock_timeout_s: int = 30
    """How long to wait for a table that is locked exclusively."""
    exclude_tables: tuple[str, ...] = ()
    """Tables left out on purpose, as schema.table or schema.*; the manifest lists them."""
    daily: int = 30
    """How many days keep their newest backup."""
    weekly: int = 12
    """How many ISO weeks keep their newest backup."""
    monthly: int = 12
    """How many months keep their newest backup."""
    max_age_hours: float = 26.0
    """The newest verified backup must not be older than this."""
