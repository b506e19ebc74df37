"""A streaming upload to S3: one request where it is small, else multipart with two parts on their way."""

import base64
import contextlib
import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from pytest_tenantproof.backup.store.base import Stored, version_of
from pytest_tenantproof.errors import StoreError

if TYPE_CHECKING:
    from pytest_tenantproof.backup.store.s3 import S3Store

__all__ = ["Upload"]

_PART = 8 << 20
_GROW_EVERY = 2000
_LARGEST = 64 << 20
_IN_FLIGHT = 2
_GONE = frozenset({"NoSuchUpload", "PreconditionFailed", "412", "404"})


class Upload:
    """Parts start at 8 MiB and grow to 64 MiB, so that 10,000 parts hold 368 GiB and memory stays bounded."""

    def __init__(self, store: "S3Store", name: str, *, lock: bool) -> None:
        self._store, self._name, self._lock = store, name, lock
        self._where = store.where(name)
        self._buffer = bytearray()
        self._size = 0
        self._whole = hashlib.sha256()
        self._id = ""
        self._parts: list[Any] = []
        self._digests: list[bytes] = []
        self._waiting: deque[Future[dict[str, Any]]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._done: Stored | None = None

    @property
    def _part_size(self) -> int:
        return int(min(_PART << (len(self._digests) // _GROW_EVERY), _LARGEST))

    def write(self, data: bytes) -> None:
        self._whole.update(data)
        self._size += len(data)
        self._buffer += data
        while len(self._buffer) > self._part_size:
            size = self._part_size
            self._send(bytes(self._buffer[:size]))
            del self._buffer[:size]

    def _begin(self) -> ThreadPoolExecutor:
        more: dict[str, Any] = dict(self._store.lock(self._lock))
        if self._store.spec.checksums == "sha256":
            more["ChecksumAlgorithm"] = "SHA256"
        with self._store.reported("begin", self._name):
            self._id = self._store.client.create_multipart_upload(**self._where, **more)["UploadId"]
        self._pool = ThreadPoolExecutor(_IN_FLIGHT)
        return self._pool

    def _send(self, part: bytes) -> None:
        pool = self._pool or self._begin()
        while len(self._waiting) >= _IN_FLIGHT:
            self._parts.append(self._waiting.popleft().result())
        algorithm = "md5" if self._store.spec.checksums == "md5" else "sha256"
        self._digests.append(hashlib.new(algorithm, part, usedforsecurity=False).digest())
        self._waiting.append(pool.submit(self._upload, len(self._digests), part))

    def _upload(self, number: int, part: bytes) -> dict[str, Any]:
        checksum = self._store.checksum(part)
        with self._store.reported("upload", self._name):
            answer = self._store.client.upload_part(
                **self._where, UploadId=self._id, PartNumber=number, Body=part, **checksum
            )
        proof = {name: value for name, value in checksum.items() if name == "ChecksumSHA256"}
        return {"PartNumber": number, "ETag": answer["ETag"], **proof}

    def commit(self) -> Stored:
        if self._done is None:
            self._done = self._complete() if self._id else self._single()
        return self._done

    def _single(self) -> Stored:
        return self._store.put(self._name, bytes(self._buffer), lock=self._lock)

    def _complete(self) -> Stored:
        self._send(bytes(self._buffer))
        while self._waiting:
            self._parts.append(self._waiting.popleft().result())
        more: dict[str, Any] = {"IfNoneMatch": "*"} if self._store.spec.checksums == "sha256" else {}
        with self._store.reported("complete", self._name):
            try:
                answer = self._store.client.complete_multipart_upload(
                    **self._where, UploadId=self._id, MultipartUpload={"Parts": self._parts}, **more
                )
                version, proof = version_of(answer), dict(answer)
                if self._store.spec.checksums == "sha256" and "ChecksumSHA256" not in proof:
                    proof = self._described(version)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _GONE:
                    raise
                version, proof = self._already_there()
        self._compare(proof)
        self._stop()
        stored = Stored(self._name, self._size, self._whole.hexdigest(), version)
        return self._store.settled(stored, self._lock)

    def _described(self, version: str = "") -> dict[str, Any]:
        more: dict[str, Any] = {"VersionId": version} if version else {}
        return dict(self._store.client.head_object(**self._where, ChecksumMode="ENABLED", **more))

    def _already_there(self) -> tuple[str, dict[str, Any]]:
        """The answer to a completion that succeeded was lost on the way: the retry found it done."""
        answer = self._described()
        if answer["ContentLength"] != self._size:
            raise StoreError(
                f"{self._store.url}/{self._name} exists and differs.",
                remedy="never reuse a run's name; run again.",
            )
        return version_of(answer), answer

    def _compare(self, proof: dict[str, Any]) -> None:
        """The server's digest over all parts has to be ours. One that shows neither is a fault."""
        composite = b"".join(self._digests)
        if self._store.spec.checksums == "md5":
            ours = f"{hashlib.md5(composite, usedforsecurity=False).hexdigest()}-{len(self._digests)}"
            theirs = str(proof.get("ETag", "")).strip('"')
        else:
            ours = base64.b64encode(hashlib.sha256(composite).digest()).decode()
            theirs = str(proof.get("ChecksumSHA256", "")).partition("-")[0]
        if ours != theirs:
            raise StoreError(
                f"{self._store.url}/{self._name}: the server's checksum is {theirs or 'not given'}, not {ours}.",
                remedy='set checksums = "md5" for a server without SHA-256; else run again.',
            )

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def abort(self) -> None:
        self._stop()
        self._waiting.clear()
        self._buffer.clear()
        if self._id and self._done is None:
            # The next run removes what cannot be removed now; the failure that led here is the one to report.
            with contextlib.suppress(StoreError), self._store.reported("abort", self._name):
                self._store.client.abort_multipart_upload(**self._where, UploadId=self._id)
            self._id = ""
