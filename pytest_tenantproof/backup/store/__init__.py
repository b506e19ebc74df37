"""Where backups are kept: a folder, S3 or Backblaze B2."""

from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pytest_tenantproof.backup.store.base import (
    Capabilities,
    DeletionDenied,
    ObjectLocked,
    Store,
    Stored,
    StoreSpec,
    Writer,
)
from pytest_tenantproof.backup.store.discard import DiscardStore
from pytest_tenantproof.backup.store.local import LocalStore
from pytest_tenantproof.config.backup import BackupSettings
from pytest_tenantproof.errors import ConfigError

__all__ = [
    "Capabilities",
    "DeletionDenied",
    "DiscardStore",
    "LocalStore",
    "ObjectLocked",
    "Store",
    "StoreSpec",
    "Stored",
    "Writer",
    "key_store_spec",
    "open_store",
    "store_spec",
]


def store_spec(settings: BackupSettings, target: str, root: Path) -> StoreSpec:
    """Where the backups of `target` are. A folder is relative to `root`. Raises ConfigError."""
    return _spec(settings, settings.store, target, root)


def key_store_spec(settings: BackupSettings, target: str, root: Path) -> StoreSpec:
    """Where the wrapped keys of `target` are: never locked, since erasure must be possible."""
    spec = _spec(settings, settings.key_store or settings.store, target, root)
    return replace(spec, lock_mode="", lock_days=0)


def _spec(settings: BackupSettings, url: str, target: str, root: Path) -> StoreSpec:
    if not url:
        raise ConfigError("[tenantproof.backup] has no store.", remedy='set store = "s3://bucket/prefix" or a folder.')
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        path = Path(unquote(parts.path)) if parts.scheme else root / url
        return StoreSpec((path / target).absolute().as_uri())
    if parts.scheme not in ("s3", "b2") or not parts.netloc:
        raise ConfigError(
            f"[tenantproof.backup] store {url!r} is not understood.",
            remedy="write s3://bucket/prefix, b2://bucket/prefix, or a folder.",
        )
    b2 = parts.scheme == "b2"
    endpoint = settings.endpoint or (f"https://s3.{settings.region}.backblazeb2.com" if b2 else "")
    if b2 and not (settings.endpoint or settings.region):
        raise ConfigError(
            "[tenantproof.backup] has a b2:// store, but no region.",
            remedy='set region, e.g. "eu-central-003": it is in the bucket\'s endpoint.',
        )
    return StoreSpec(
        f"{url.rstrip('/')}/{target}",
        endpoint,
        settings.region,
        settings.checksums or ("md5" if b2 else "sha256"),
        settings.lock_mode,
        settings.lock_days,
    )


def open_store(spec: StoreSpec) -> Store:
    """The store of a spec. boto3 is imported only for one that needs it."""
    parts = urlsplit(spec.url)
    if parts.scheme == "discard":
        return DiscardStore()
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)))
    from pytest_tenantproof.backup.store.s3 import S3Store

    return S3Store(spec)
