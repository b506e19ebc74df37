"""What is packed inside a piece of bytes: compressed files, inlined base64, UTF-16 strings. Pure and bounded."""

import binascii
import re
import zlib
from collections.abc import Iterator

import brotli
import zstandard

__all__ = ["Unreadable", "embedded", "unpacked"]

_LARGEST = 512 << 20
_STEP = 1 << 20
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{32,}")
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_WIDE = re.compile(rb"(?:[\x20-\x7e]\x00){16,}")


class Unreadable(Exception):
    """A file that says it is compressed and cannot be unpacked, or not within the limit."""


def unpacked(name: str, data: bytes) -> tuple[str, bytes] | None:
    """The content of a compressed file and how it was packed, by its first bytes, or its name for brotli.

    Raises Unreadable: what cannot be unpacked here can perhaps be by a browser.
    """
    if data.startswith(b"\x1f\x8b\x08") or name.endswith(".gz"):
        return "gzip", _inflate(data)
    if data.startswith(b"\x28\xb5\x2f\xfd") or name.endswith(".zst"):
        return "zstd", _unzstd(data)
    if name.endswith(".br"):
        return "brotli", _unbrotli(data)
    return None


def embedded(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """What is written inside `data` in another alphabet: (how, offset, content)."""
    for match in _BASE64.finditer(data):
        text = match[0].translate(_URLSAFE)
        for start in range(4):
            whole = text[start : start + (len(text) - start) // 4 * 4]
            yield "base64", match.start() + start, binascii.a2b_base64(whole)
    if b"\x00" in data:
        for match in _WIDE.finditer(data):
            yield "utf-16", match.start(), match[0][::2]


def _inflate(data: bytes) -> bytes:
    parts, size = [], 0
    try:
        while data:
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                part = member.decompress(data, _STEP)
                data, size = member.unconsumed_tail, size + len(part)
                parts.append(part)
                if size > _LARGEST or not (part or data):
                    raise Unreadable("it is truncated or too large")
            data = member.unused_data.lstrip(b"\0")
    except zlib.error:
        raise Unreadable("it is no valid gzip file") from None
    return b"".join(parts)


def _unbrotli(data: bytes) -> bytes:
    parts, size, stream = [], 0, brotli.Decompressor()
    try:
        parts.append(stream.process(data, output_buffer_limit=_STEP))
        while not stream.is_finished():
            part = stream.process(b"", output_buffer_limit=_STEP)
            size += len(part)
            parts.append(part)
            if size > _LARGEST or not part:
                raise Unreadable("it is truncated or too large")
    except brotli.error:
        raise Unreadable("it is no valid brotli file") from None
    return b"".join(parts)


def _unzstd(data: bytes) -> bytes:
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
            content = stream.read(_LARGEST + 1)
    except zstandard.ZstdError:
        raise Unreadable("it is no valid zstd file") from None
    if len(content) > _LARGEST:
        raise Unreadable("it is too large")
    return content
