"""S3, and what speaks its protocol: Backblaze B2, MinIO, Ceph, R2.

Each upload carries a checksum that the server verifies: SHA-256, or Content-MD5 where the server knows no
other (B2). Reads name the version where the manifest pinned one, so a later overwrite changes nothing.
"""

import base64
import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pytest_tenantproof.backup.store.base import (
    Capabilities,
    DeletionDenied,
    ObjectLocked,
    Stored,
    StoreSpec,
    Writer,
    check_name,
    version_of,
)
from pytest_tenantproof.backup.store.probe import probe_bucket
from pytest_tenantproof.backup.store.upload import Upload
from pytest_tenantproof.errors import StoreError

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

__all__ = ["S3Store"]

_ATTEMPTS = 5
_PIECE = 1 << 20
_ABSENT = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
_DENIED = frozenset({"403", "AccessDenied", "Forbidden"})
_REMEDIES = {
    "NoSuchBucket": "create the bucket, or correct `store` in [tenantproof.backup].",
    "InvalidAccessKeyId": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    "SignatureDoesNotMatch": "correct AWS_SECRET_ACCESS_KEY.",
    "RequestTimeTooSkewed": "set this machine's clock.",
    "ObjectLockConfigurationNotFoundError": "create the bucket with Object Lock, or unset lock_mode.",
} | dict.fromkeys(_DENIED, "grant this identity the right on the bucket and prefix; see docs/BACKUP-FORMAT.md.")


def code_of(error: Exception) -> str:
    """The server's error code, "" where the request got no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


class S3Store:
    """One prefix of one bucket. Safe to use from several threads."""

    def __init__(self, spec: StoreSpec) -> None:
        parts = urlsplit(spec.url)
        self.spec = spec
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        retries: Any = {"mode": "standard", "total_max_attempts": _ATTEMPTS}
        self.client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=spec.endpoint or None,
            region_name=spec.region or None,
            config=Config(
                retries=retries,
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=20,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if spec.endpoint else "auto"},
            ),
        )

    @property
    def url(self) -> str:
        return self.spec.url

    def where(self, name: str) -> dict[str, Any]:
        """The bucket and key of a name, as request arguments."""
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{check_name(name)}".lstrip("/")}

    @contextlib.contextmanager
    def reported(self, action: str, name: str) -> Iterator[None]:
        """Turns the library's errors into StoreError."""
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            code = code_of(error)
            reason = code or type(error).__name__
            raise StoreError(
                f"cannot {action} {self.url}/{name}: {reason}.",
                remedy=_REMEDIES.get(code, "check the network, the endpoint and the store's status; run again."),
            ) from error

    def checksum(self, data: bytes) -> dict[str, Any]:
        """The arguments by which the server verifies what it receives; Object Lock insists on one of them."""
        if self.spec.checksums == "md5":
            return {"ContentMD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()}
        return {
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        }

    def lock(self, wanted: bool, until: datetime | None = None) -> dict[str, Any]:
        """Arguments that put an object under Object Lock, where that is configured."""
        if not (wanted and self.spec.lock_mode):
            return {}
        until = until or datetime.now(UTC) + timedelta(days=self.spec.lock_days)
        return {"ObjectLockMode": self.spec.lock_mode.upper(), "ObjectLockRetainUntilDate": until}

    def put(self, name: str, data: bytes, *, lock: bool = False, replace: bool = False) -> Stored:
        if not replace and (there := self.head(name)):
            return self._same(there, data)
        return self.put_now(name, data, lock=lock, create=not replace)

    def put_now(self, name: str, data: bytes, *, lock: bool = False, create: bool = True) -> Stored:
        """Writes without looking first; with `create`, the server refuses an existing object."""
        digest = hashlib.sha256(data).hexdigest()
        more = self.checksum(data) | self.lock(lock)
        if create and self.spec.checksums == "sha256":
            more["IfNoneMatch"] = "*"
        with self.reported("write", name):
            try:
                answer = self.client.put_object(**self.where(name), Body=data, Metadata={"sha256": digest}, **more)
            except ClientError as error:
                there = self.head(name) if code_of(error) in ("PreconditionFailed", "412") else None
                if there is None:
                    raise
                return self._same(there, data)
        return self.settled(Stored(name, len(data), digest, version_of(answer)), lock)

    def _same(self, there: Stored, data: bytes) -> Stored:
        if there.sha256 != hashlib.sha256(data).hexdigest():
            raise StoreError(
                f"{self.url}/{there.name} exists and differs.", remedy="never reuse a run's name; run again."
            )
        return there

    def settled(self, stored: Stored, lock: bool) -> Stored:
        """The object as the server now describes it: its size right, and locked if that was asked for."""
        found = self.head(stored.name, version=stored.version)
        if lock and self.spec.lock_mode and found and not found.locked_until:
            found = self._lock_afterwards(stored)
        if found is None or found.size != stored.size:
            raise StoreError(
                f"{self.url}/{stored.name} is not what was written.", remedy="check the store's consistency."
            )
        return Stored(stored.name, stored.size, stored.sha256, stored.version, found.modified, found.locked_until)

    def _lock_afterwards(self, stored: Stored) -> Stored | None:
        """Some servers drop the lock of a multipart upload: set it, and insist that it shows."""
        lock = self.lock(True)
        retention: Any = {"Mode": lock["ObjectLockMode"], "RetainUntilDate": lock["ObjectLockRetainUntilDate"]}
        version: dict[str, Any] = {"VersionId": stored.version} if stored.version else {}
        with self.reported("lock", stored.name):
            self.client.put_object_retention(**self.where(stored.name), **version, Retention=retention)
        found = self.head(stored.name, version=stored.version)
        if found is None or not found.locked_until:
            raise StoreError(
                f"{self.url} does not keep the Object Lock that lock_mode asks for.",
                remedy="use a bucket with Object Lock, grant s3:GetObjectRetention, or unset lock_mode.",
            )
        return found

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(lambda item: self.put_now(*item, create=False), items):
                pass

    def writer(self, name: str, *, lock: bool = False) -> Writer:
        return Upload(self, name, lock=lock)

    def read(self, name: str, *, offset: int = 0, length: int | None = None, version: str = "") -> Iterator[bytes]:
        if length is None:
            found = self.head(name, version=version)
            if found is None:
                raise StoreError(f"{self.url}/{name} is missing.", remedy="use another backup.")
            length = found.size - offset
        failures = 0
        while length > 0:
            try:
                for piece in self._range(name, offset, length, version):
                    offset, length, failures = offset + len(piece), length - len(piece), 0
                    yield piece
            except BotoCoreError:
                failures += 1
                if failures >= _ATTEMPTS:
                    with self.reported("read", name):
                        raise
            else:
                if length:
                    raise StoreError(f"{self.url}/{name} ends {length} bytes early.", remedy="use another backup.")

    def _range(self, name: str, offset: int, length: int, version: str) -> Iterator[bytes]:
        more: dict[str, Any] = {"VersionId": version} if version else {}
        try:
            answer = self.client.get_object(**self.where(name), Range=f"bytes={offset}-{offset + length - 1}", **more)
        except ClientError:
            with self.reported("read", name):
                raise
        with contextlib.closing(answer["Body"]) as body:
            yield from body.iter_chunks(_PIECE)

    def head(self, name: str, *, version: str = "") -> Stored | None:
        more: dict[str, Any] = {"VersionId": version} if version else {}
        with self.reported("look at", name):
            try:
                answer = self.client.head_object(**self.where(name), **more)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
        return Stored(
            name,
            answer["ContentLength"],
            answer.get("Metadata", {}).get("sha256", ""),
            version_of(answer),
            answer["LastModified"],
            answer.get("ObjectLockRetainUntilDate"),
        )

    def versions(self, name: str) -> tuple[Stored, ...]:
        found = [s for s, _ in self._history(name) if s.name == name and not s.hidden]
        return tuple(reversed(found))

    def list(self, prefix: str = "") -> Iterator[Stored]:
        newest: dict[str, Stored] = {}
        hidden = set()
        for stored, latest in self._history(prefix):
            if stored.hidden and latest:
                hidden.add(stored.name)
            elif not stored.hidden:
                newest.setdefault(stored.name, stored)
        for name in sorted(newest):
            s = newest[name]
            yield Stored(name, s.size, "", s.version, s.modified, hidden=name in hidden)

    def _history(self, prefix: str) -> Iterator[tuple[Stored, bool]]:
        """Every version and marker (hidden=True) under `prefix`, newest first, and whether it is the latest."""
        key = f"{self.prefix}/{prefix}".lstrip("/")
        with self.reported("list", prefix):
            pages = self.client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self.bucket, Prefix=key):
                for item in page.get("Versions", ()):
                    yield self._listed(item, hidden=False), item["IsLatest"]
                for marker in page.get("DeleteMarkers", ()):
                    yield self._listed(marker, hidden=True), marker["IsLatest"]

    def _listed(self, item: Any, *, hidden: bool) -> Stored:
        name = item["Key"].removeprefix(self.prefix).lstrip("/")
        return Stored(
            name,
            item.get("Size", 0),
            "",
            version_of(item),
            item["LastModified"],
            hidden=hidden,
        )

    def delete(self, name: str) -> None:
        for stored, _ in [found for found in self._history(name) if found[0].name == name]:
            self.delete_version(name, stored.version)

    def delete_older(self, name: str) -> None:
        found = [stored for stored, _ in self._history(name) if stored.name == name]
        for stored in found[1:]:
            self.delete_version(name, stored.version)

    def delete_version(self, name: str, version: str) -> None:
        """Removes one version. Raises ObjectLocked where Object Lock keeps it, DeletionDenied without the right."""
        more: dict[str, Any] = {"VersionId": version} if version else {}
        with self.reported("delete", name):
            try:
                self.client.delete_object(**self.where(name), **more)
            except ClientError as error:
                if code_of(error) not in _DENIED:
                    raise
                if until := self._locked(name, version):
                    raise ObjectLocked(
                        f"{self.url}/{name} is locked until {until:%Y-%m-%d %H:%M} UTC.",
                        remedy="wait: Object Lock is doing its work.",
                    ) from error
                raise DeletionDenied(
                    f"this identity may not delete {self.url}/{name}.",
                    remedy="let an identity that may delete run `tenantproof retention`.",
                ) from error

    def _locked(self, name: str, version: str) -> datetime | None:
        found = self.head(name, version=version)
        return found.locked_until if found else None

    def abort_partial(self, prefix: str) -> int:
        key, count = f"{self.prefix}/{prefix}".lstrip("/"), 0
        with self.reported("list uploads of", prefix):
            pages = self.client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket, Prefix=key):
                for item in page.get("Uploads", ()):
                    self.client.abort_multipart_upload(Bucket=self.bucket, Key=item["Key"], UploadId=item["UploadId"])
                    count += 1
        return count

    def capabilities(self) -> Capabilities:
        return probe_bucket(self)

    def clock(self) -> datetime:
        with self.reported("ask", "its clock"):
            answer = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)

    def close(self) -> None:
        self.client.close()
