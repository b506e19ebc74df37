"""Is the bucket write-once, and may this identity delete? Found out by trying, not by believing headers."""

import contextlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from pytest_tenantproof.backup.store.base import Capabilities
from pytest_tenantproof.errors import StoreError

if TYPE_CHECKING:
    from pytest_tenantproof.backup.store.s3 import S3Store

__all__ = ["probe_bucket"]

_FOLDER = "probe"
_LOCK = timedelta(minutes=2)


def probe_bucket(store: "S3Store") -> Capabilities:
    """Writes a probe as a backup would be written, and tries to delete it, bypassing what it may."""
    host = urlsplit(store.client.meta.endpoint_url).hostname or ""
    versioned = _versioned(store)
    name = f"{_FOLDER}/{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    _sweep(store)
    try:
        lock = store.lock(True, datetime.now(UTC) + _LOCK)
        data = b"tenantproof probe\n"
        written = store.client.put_object(**store.where(name), Body=data, **store.checksum(data), **lock)
        version = written.get("VersionId", "")
    except (ClientError, BotoCoreError, StoreError) as error:
        return Capabilities("s3", None, None, versioned, host, f"no probe could be written: {_reason(error)}")
    write_once, detail = _withstands(store, name, version)
    can_delete = True if write_once is False else _may_delete(store)
    return Capabilities("s3", write_once, can_delete, versioned, host, detail)


def _reason(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "error"))
    return type(error).__name__


def _versioned(store: "S3Store") -> bool | None:
    try:
        answer = store.client.get_bucket_versioning(Bucket=store.bucket)
    except (ClientError, BotoCoreError):
        return None
    return answer.get("Status") == "Enabled"


def _withstands(store: "S3Store", name: str, version: str) -> tuple[bool | None, str]:
    try:
        there = store.head(name, version=version)
        locked = bool(there and there.locked_until)
        more: dict[str, Any] = {"VersionId": version} if version else {}
        if locked:
            store.client.delete_object(**store.where(name), **more, BypassGovernanceRetention=True)
        else:
            store.client.delete_object(**store.where(name), **more)
        gone = store.head(name, version=version) is None
    except ClientError as error:
        if _reason(error) in ("AccessDenied", "403"):
            return (
                (True, "a locked probe withstood deletion")
                if locked
                else (
                    None,
                    "deletion is denied, but no Object Lock shows: another identity may delete",
                )
            )
        return None, f"the probe could not be deleted: {_reason(error)}"
    except (BotoCoreError, StoreError) as error:
        return None, f"the probe could not be examined: {_reason(error)}"
    if not gone:
        return None, "the probe was deleted but is still there"
    return False, "the probe was deleted by its own writer" + (", bypassing its lock" if locked else "")


def _may_delete(store: "S3Store") -> bool | None:
    """Deletes a name that does not exist; the marker this leaves in a versioned bucket is removed again."""
    where = store.where(f"{_FOLDER}/absent-{secrets.token_hex(8)}")
    try:
        marker = store.client.delete_object(**where).get("VersionId", "")
        if marker:
            store.client.delete_object(**where, VersionId=marker)
    except ClientError as error:
        return False if _reason(error) in ("AccessDenied", "403") else None
    except BotoCoreError:
        return None
    return True


def _sweep(store: "S3Store") -> None:
    """Removes earlier probes whose lock has run out; what is still locked stays."""
    with contextlib.suppress(StoreError):
        for old in store.list(f"{_FOLDER}/"):
            with contextlib.suppress(StoreError):
                store.delete(old.name)
