"""Segments: what was written is read, and nothing else is accepted."""

import base64
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tenantproof.backup.crypto import (
    ChunkCipher,
    data_key_id,
    new_data_key,
    new_keypair,
    open_key,
    parse_private,
    parse_recipient,
    unwrap,
    wrap,
)
from pytest_tenantproof.backup.format import (
    CHUNK_BYTES,
    HEADER_BYTES,
    MAGIC,
    Fingerprint,
    SegmentWriter,
    open_segment,
    segment_context,
)
from pytest_tenantproof.backup.keyring import key_context, wrapped_keys
from pytest_tenantproof.errors import BackupError, FormatError

KEY = bytes(range(32))
CONTEXT = segment_context("20261124T020000Z-0a1b2c3d", "t1", "public.messages", "ab" * 32)
SEALED = CHUNK_BYTES + 16
VECTORS = Path(__file__).parent / "vectors"


def sealed(plain: bytes, key: bytes = KEY, context: bytes = CONTEXT, salt: bytes | None = None) -> bytes:
    out = bytearray()
    writer = SegmentWriter(out.extend, key, context, salt=salt)
    for at in range(0, len(plain), 100_000):
        writer.write(plain[at : at + 100_000])
    digest = writer.close()
    assert digest.length == len(out)
    return bytes(out)


def opened(stored: bytes, key: bytes = KEY, context: bytes = CONTEXT, piece: int = 70_000) -> bytes:
    pieces = (stored[at : at + piece] for at in range(0, len(stored), piece))
    return b"".join(open_segment(pieces, key, context))


@pytest.fixture(scope="module")
def long() -> tuple[bytes, bytes]:
    """Random text, so that it stays long when compressed: three whole chunks and some."""
    plain = os.urandom(3 * CHUNK_BYTES + 5000)
    return plain, sealed(plain)


@pytest.mark.parametrize("size", [0, 1, 100, CHUNK_BYTES - 40, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_every_size_is_read_back(size: int) -> None:
    plain = os.urandom(size)
    assert opened(sealed(plain)) == plain
    assert opened(sealed(b"a" * size)) == b"a" * size


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=5000), st.integers(1, 300))
def test_any_bytes_in_any_pieces(plain: bytes, piece: int) -> None:
    assert opened(sealed(plain), piece=piece) == plain


def test_an_exact_multiple_of_a_chunk_is_no_special_case() -> None:
    """A compressed stream that fills its chunks to the byte ends in a full final chunk, never in an empty one."""
    for size in (CHUNK_BYTES, 2 * CHUNK_BYTES):
        stream = os.urandom(size)
        cipher = ChunkCipher(KEY, b"s" * 32, CONTEXT)
        chunks = [stream[at : at + CHUNK_BYTES] for at in range(0, size, CHUNK_BYTES)]
        body = b"".join(cipher.seal(chunk, final=False) for chunk in chunks) + cipher.seal(b"", final=True)
        with pytest.raises(FormatError):
            opened(MAGIC + b"s" * 32 + body)


def test_a_flip_of_any_bit_of_a_short_segment_is_detected() -> None:
    stored = sealed(b"1\tsome text\n")
    for at in range(len(stored)):
        for bit in range(8):
            damaged = bytearray(stored)
            damaged[at] ^= 1 << bit
            with pytest.raises(FormatError):
                opened(bytes(damaged))


def test_every_class_of_byte_of_a_long_segment(long: tuple[bytes, bytes]) -> None:
    _, stored = long
    places = {0, 7, 8, 39}
    for chunk in range(4):
        start = HEADER_BYTES + chunk * SEALED
        end = min(start + SEALED, len(stored))
        places |= {start, start + 1, (start + end) // 2, end - 17, end - 16, end - 1}
    for at in places:
        damaged = bytearray(stored)
        damaged[at] ^= 0x10
        with pytest.raises(FormatError):
            opened(bytes(damaged))


def test_truncation_anywhere_is_detected(long: tuple[bytes, bytes]) -> None:
    short = sealed(b"1\tsome text\n")
    for length in range(len(short)):
        with pytest.raises(FormatError):
            opened(short[:length])
    _, stored = long
    for whole in range(4):
        for more in (-1, 0, 1):
            with pytest.raises(FormatError):
                opened(stored[: HEADER_BYTES + whole * SEALED + more])


def test_chunks_cannot_be_reordered_repeated_dropped_or_appended(long: tuple[bytes, bytes]) -> None:
    _, stored = long
    head, body = stored[:HEADER_BYTES], stored[HEADER_BYTES:]
    a, b, c, d = (body[at : at + SEALED] for at in range(0, len(body), SEALED))
    for order in ([b, a, c, d], [a, a, b, c, d], [a, c, d], [a, b, c], [d], [a, b, c, d, d], [a, b, d, c], []):
        with pytest.raises(FormatError):
            opened(head + b"".join(order))
    other = sealed(b"something else\n")
    for appended in (b"\0", other, other[HEADER_BYTES:]):
        with pytest.raises(FormatError):
            opened(stored + appended)


@pytest.mark.parametrize(
    "context",
    [
        segment_context("20261124T020000Z-0a1b2c3d", "t2", "public.messages", "ab" * 32),
        segment_context("20261124T020000Z-0a1b2c3e", "t1", "public.messages", "ab" * 32),
        segment_context("20261124T020000Z-0a1b2c3d", "t1", "public.units", "ab" * 32),
        segment_context("20261124T020000Z-0a1b2c3d", "t1", "public.messages", "ac" * 32),
        segment_context("20261124T020000Z-0a1b2c3d", None, "public.messages", "ab" * 32),
        segment_context("20261124T020000Z-0a1b2c3d", "null", "public.messages", "ab" * 32),
    ],
)
def test_a_segment_is_bound_to_run_tenant_table_and_set_of_tables(context: bytes) -> None:
    stored = sealed(b"1\tsome text\n")
    with pytest.raises(FormatError):
        opened(stored, context=context)
    with pytest.raises(FormatError):
        opened(stored, key=new_data_key())


def test_no_two_contexts_look_the_same() -> None:
    """A tenant id may be any text: it cannot be made to read as another tenant's table."""
    odd = ('t","public.x', "t", "", 'a"', "a\\", "\u0000", "ü")
    found = [segment_context("r", tenant, table, "d") for tenant in (*odd, None) for table in odd]
    assert len(set(found)) == len(found)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: MAGIC + b"s" * 32 + tail))
def test_arbitrary_bytes_are_refused(stored: bytes) -> None:
    with pytest.raises(FormatError):
        opened(stored)


@pytest.mark.long
@settings(max_examples=5000, deadline=None)
@given(st.data())
def test_mutations_are_refused_or_change_nothing(data: st.DataObject) -> None:
    plain = data.draw(st.binary(max_size=400))
    stored = bytearray(sealed(plain))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stored)))
        kind = data.draw(st.sampled_from(("set", "insert", "delete")))
        byte = data.draw(st.binary(min_size=1, max_size=3))
        stored[at : at + (len(byte) if kind != "insert" else 0)] = byte if kind != "delete" else b""
    try:
        assert opened(bytes(stored)) == plain
    except FormatError:
        return


def with_key(stream: bytes) -> bytes:
    """What a holder of the key might write: a stream that is authentic and no zstd."""
    cipher = ChunkCipher(KEY, b"s" * 32, CONTEXT)
    return MAGIC + b"s" * 32 + cipher.seal(stream, final=True)


def test_authentic_nonsense_is_refused() -> None:
    frame = zstandard.ZstdCompressor().compress(b"text\n")
    assert opened(with_key(frame)) == b"text\n"
    with pytest.raises(FormatError):
        opened(with_key(b"nonsense"))


def test_memory_stays_bounded_when_a_little_becomes_much() -> None:
    """200 MB of zeros compress to 20 kB; they are read in pieces."""
    stored = with_key(zstandard.ZstdCompressor().compress(bytes(200 << 20)))
    assert len(stored) < 100_000
    largest = total = 0
    for piece in open_segment(iter([stored]), KEY, CONTEXT):
        largest, total = max(largest, len(piece)), total + len(piece)
    assert (largest <= 1 << 20, total) == (True, 200 << 20)


def test_salts_and_so_keys_and_nonces_never_repeat() -> None:
    segments = [sealed(b"the same") for _ in range(200)]
    assert len({s[8:40] for s in segments}) == len({s[40:] for s in segments}) == 200


def test_fingerprints_are_of_the_set_of_lines() -> None:
    lines = [b"1\ta\n", b"2\tb\n", b"2\tb\n"]

    def of(some: list[bytes]) -> str:
        found = Fingerprint()
        for line in some:
            found.add([line])
        return found.hex()

    assert of(lines) == of(lines[::-1])
    assert len({of(lines), of(lines[:2]), of([*lines, b""]), of([b"1\ta\n2\tb\n"]), of([])}) == 5


# --- keys -----------------------------------------------------------------------------------------------


def test_keys_are_written_and_read_as_text() -> None:
    pair = new_keypair()
    assert parse_private(pair.private_text) == pair
    assert parse_recipient(f" {pair.recipient.text}\n") == pair.recipient
    assert pair.private_text not in repr(pair)
    for wrong in ("", "tpbpub1:", pair.private_text, pair.recipient.text[:-2], pair.recipient.text + "A", "x" * 60):
        with pytest.raises(BackupError, match="malformed") as caught:
            parse_recipient(wrong)
        assert pair.private_text not in str(caught.value)


def test_only_recipients_unwrap_and_damage_is_noticed() -> None:
    one, two, three = (new_keypair() for _ in range(3))
    key = new_data_key()
    boxes = wrap(key, [one.recipient, two.recipient])
    assert unwrap(boxes, one) == unwrap(boxes, two) == key
    with pytest.raises(BackupError, match="cannot read this"):
        unwrap(boxes, three)
    raw = bytearray(base64.b64decode(boxes[one.recipient.id]))
    for at in range(0, len(raw), 7):
        damaged = bytes(raw[:at]) + bytes([raw[at] ^ 1]) + bytes(raw[at + 1 :])
        with pytest.raises(FormatError):
            unwrap({one.recipient.id: base64.b64encode(damaged).decode()}, one)
    with pytest.raises(FormatError):
        unwrap({one.recipient.id: boxes[two.recipient.id]}, one)


def test_a_weak_recipient_is_refused() -> None:
    weak = parse_recipient("tpbpub1:" + "A" * 43 + "=")
    with pytest.raises(FormatError, match="cannot be wrapped"):
        wrap(new_data_key(), [weak])


def test_a_data_key_fits_its_tenant_and_run_alone() -> None:
    """Whoever may write key objects cannot give a tenant another one's key, or an older run's."""
    pair, run, other = new_keypair(), "20261124T020000Z-0a1b2c3d", "20261124T020000Z-0a1b2c3e"
    keys: dict[str | None, bytes | None] = {"a": new_data_key(), "b": new_data_key(), None: new_data_key(), "e": None}
    wrapped = wrapped_keys(run, keys, [pair.recipient])
    assert wrapped.open(pair) == keys
    assert wrapped.without("a").open(pair) == keys | {"a": None}
    swapped = {**wrapped.keys, "a": wrapped.keys["b"], "b": wrapped.keys["a"]}
    for found in (replace(wrapped, keys=swapped), replace(wrapped, run=other)):
        with pytest.raises(FormatError, match="damaged"):
            found.open(pair)
    again = wrapped_keys(run, keys, [pair.recipient])
    with pytest.raises(FormatError, match="damaged"):
        replace(again, boxes=wrapped.boxes).open(pair)
    sealed = bytearray(base64.b64decode(wrapped.keys["a"] or ""))
    for at in range(len(sealed)):
        damaged = bytes(sealed[:at]) + bytes([sealed[at] ^ 1]) + bytes(sealed[at + 1 :])
        with pytest.raises(FormatError):
            replace(wrapped, keys={"a": base64.b64encode(damaged).decode()}).open(pair)


# --- vectors: written once, readable for ever ------------------------------------------------------------


def vectors() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((VECTORS / "segments.json").read_text())
    return found


def test_there_are_vectors() -> None:
    assert len(vectors()) >= 3


@pytest.mark.parametrize("vector", vectors(), ids=lambda v: str(v["name"]))
def test_vectors_are_read(vector: dict[str, str]) -> None:
    key, context = bytes.fromhex(vector["data_key"]), vector["context"].encode()
    pair = parse_private(vector["private_key"])
    wrapping = unwrap({pair.recipient.id: vector["box"]}, pair)
    run, tenant = json.loads(vector["context"])[1:3]
    assert open_key(wrapping, vector["wrapped"], key_context(run, tenant)) == key
    assert data_key_id(key) == vector["key_id"]
    stored = base64.b64decode(vector["segment"])
    assert opened(stored, key, context) == base64.b64decode(vector["plain"])
    fingerprint = Fingerprint()
    for line in base64.b64decode(vector["plain"]).splitlines(keepends=True):
        fingerprint.add([line])
    assert fingerprint.hex() == vector["fingerprint"]
    assert segment_context(*json.loads(vector["context"])[1:]) == context
