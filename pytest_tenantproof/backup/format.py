"""The segment: one table of one tenant, as zstd-compressed COPY text in authenticated chunks.

    magic "TPBACK1\\n" | salt, 32 bytes | chunk | chunk | ... | final chunk

Each chunk holds 1 MiB of the zstd stream (the final one at most that) and a 16-byte tag. The specification
is docs/BACKUP-FORMAT.md; nothing here may change without a new magic.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import zstandard

from pytest_tenantproof.backup.crypto import SALT_BYTES, TAG_BYTES, ChunkCipher
from pytest_tenantproof.errors import FormatError

__all__ = [
    "CHUNK_BYTES",
    "FORMAT",
    "HEADER_BYTES",
    "MAGIC",
    "Fingerprint",
    "SegmentDigest",
    "SegmentWriter",
    "open_segment",
    "segment_context",
]

FORMAT = "tenantproof/backup/1"
MAGIC = b"TPBACK1\n"
CHUNK_BYTES = 1 << 20
HEADER_BYTES = len(MAGIC) + SALT_BYTES
_SEALED = CHUNK_BYTES + TAG_BYTES
_READ = 1 << 18
_JSON = json.JSONEncoder(separators=(",", ":")).encode
_DAMAGED = "use another copy of the object, or an older backup."


def segment_context(run: str, tenant: str | None, table: str, tables_sha256: str) -> bytes:
    """What every chunk is bound to: run, tenant (None: global), table and the backup's set of tables."""
    return _JSON([FORMAT, run, tenant, table, tables_sha256]).encode()


class Fingerprint:
    """Order-independent digest of rows: the sum, mod 2**256, of sha256(COPY text line with its newline).

    It is taken on the stream and not by SQL, because a row is formatted once either way and hashing it here
    costs a quarter of what row::text and a hash function cost the server; the same COPY gives the same
    lines after a restore, in any order, on any version and architecture.
    """

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0

    def add(self, lines: Iterable[bytes | memoryview]) -> None:
        sha256, number = hashlib.sha256, int.from_bytes
        self.total += sum(number(sha256(line).digest(), "big") for line in lines)

    def hex(self) -> str:
        return f"{self.total % (1 << 256):064x}"


@dataclass(frozen=True, slots=True)
class SegmentDigest:
    """`bytes` and `sha256` of the plain COPY text; `length` and `encrypted_sha256` of what is stored."""

    bytes: int
    sha256: str
    length: int
    encrypted_sha256: str


class SegmentWriter:
    """Turns plain COPY text into a segment, handing sealed bytes to `sink`. One instance, one segment."""

    def __init__(
        self,
        sink: Callable[[bytes], object],
        data_key: bytes,
        context: bytes,
        *,
        level: int = 2,
        compressor: zstandard.ZstdCompressor | None = None,
        salt: bytes | None = None,
    ) -> None:
        """`compressor` may be shared between segments of one thread; `salt` is for test vectors only."""
        salt = os.urandom(SALT_BYTES) if salt is None else salt
        self._sink = sink
        self._cipher = ChunkCipher(data_key, salt, context)
        self._stream = (compressor or zstandard.ZstdCompressor(level=level)).compressobj()
        self._pending = bytearray()
        self._plain, self._sealed = hashlib.sha256(), hashlib.sha256()
        self._bytes = self._length = 0
        self._head = MAGIC + salt

    def write(self, plain: bytes | bytearray) -> None:
        self._plain.update(plain)
        self._bytes += len(plain)
        self._pending += self._stream.compress(plain)
        while len(self._pending) > CHUNK_BYTES:
            self._seal(final=False)

    def _seal(self, *, final: bool) -> None:
        chunk = bytes(self._pending[:CHUNK_BYTES])
        del self._pending[:CHUNK_BYTES]
        stored = self._head + self._cipher.seal(chunk, final=final)
        self._head = b""
        self._sealed.update(stored)
        self._length += len(stored)
        self._sink(stored)

    def close(self) -> SegmentDigest:
        self._pending += self._stream.flush()
        while len(self._pending) > CHUNK_BYTES:
            self._seal(final=False)
        self._seal(final=True)
        return SegmentDigest(self._bytes, self._plain.hexdigest(), self._length, self._sealed.hexdigest())


class _Source:
    """The opened chunks as the file that zstandard reads from, so that its output stays bounded."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, size: int) -> bytes:
        """Always asked for a chunk's size, so a chunk need not be cut."""
        return next(self._chunks, b"")


def _fill(buffer: bytearray, pieces: Iterator[bytes | memoryview], wanted: int) -> bool:
    """Reads on until `buffer` holds `wanted` bytes; False when the pieces end before."""
    while len(buffer) < wanted:
        piece = next(pieces, None)
        if piece is None:
            return False
        buffer += piece
    return True


def _take(buffer: bytearray, size: int) -> bytes:
    taken = bytes(buffer[:size])
    del buffer[:size]
    return taken


def _opened(stored: Iterable[bytes | memoryview], data_key: bytes, context: bytes) -> Iterator[bytes]:
    pieces, buffer = iter(stored), bytearray()
    if not _fill(buffer, pieces, HEADER_BYTES) or _take(buffer, len(MAGIC)) != MAGIC:
        raise FormatError("a segment does not start as one of a backup.", remedy=_DAMAGED)
    cipher = ChunkCipher(data_key, _take(buffer, SALT_BYTES), context)
    whole = 0
    while _fill(buffer, pieces, _SEALED + 1):
        yield cipher.open(_take(buffer, _SEALED), final=False)
        whole += 1
    last = cipher.open(bytes(buffer), final=True)
    if whole and not last:
        raise FormatError("a segment ends with an empty chunk.", remedy=_DAMAGED)
    yield last


def open_segment(stored: Iterable[bytes | memoryview], data_key: bytes, context: bytes) -> Iterator[bytes]:
    """The plain COPY text of a stored segment, in pieces. Raises FormatError for anything unexpected.

    A piece is authentic when it is yielded; that the segment is whole is known only at the end, so a
    consumer commits nothing before the iterator is exhausted.
    """
    chunks = _opened(stored, data_key, context)
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    source: Any = _Source(chunks)
    try:
        with decompressor.stream_reader(source, read_size=CHUNK_BYTES) as reader:
            while plain := reader.read(_READ):
                yield plain
    except zstandard.ZstdError as error:
        raise FormatError(f"a segment does not decompress: {error}.", remedy=_DAMAGED) from None
    if next(chunks, None) is not None:
        raise FormatError("a segment goes on behind its zstd frame.", remedy=_DAMAGED)
