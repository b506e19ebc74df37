"""Seals: a chain of signed Merkle roots over closed ranges of audit events, kept outside the database.

NNNNNNNN.seal.jsonl is a DSSE envelope; NNNNNNNN.leaves has 48 bytes an event (xid, id, leaf hash), so that a later
difference can be named to the row. Without it the seal still proves the range.
"""

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from pytest_tenantproof.attest.dsse import envelope, open_envelope
from pytest_tenantproof.attest.merkle import root_hash
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.attest.strictjson import canonical, load
from pytest_tenantproof.audit.events import START, Event, Horizon, Place, leaves, reading
from pytest_tenantproof.errors import AuditError, VerificationError

__all__ = ["Seal", "read_leaves", "read_seals", "seal", "seals_folder"]

PAYLOAD_TYPE = "application/vnd.tenantproof.audit-seal+json"
_SCHEMA = "tenantproof/audit-seal/1"
_MOST = 100_000
_LEAF = struct.Struct(">qq32s")


@dataclass(frozen=True, slots=True)
class Seal:
    """One sealed range, [start, end). `digest` is the sha256 of its file: what the next one names."""

    number: int
    previous: str
    start: Place
    end: Place
    events: int
    root: str
    time: datetime
    xmax: int
    target: str
    database: str
    digest: str = ""

    @property
    def range(self) -> str:
        when = f"{self.time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return f"seal {self.number}: transactions {self.start.xid} to {self.end.xid}, sealed {when}"


def seals_folder(evidence: Path, target: str) -> Path:
    """Where a target's seals are: evidence/<target>/seals."""
    return evidence / target / "seals"


def seal(
    connection: psycopg.Connection[Any],
    folder: Path,
    target: str,
    signer: Signer,
    keys: Mapping[str, bytes],
    most: int = _MOST,
) -> list[Seal]:
    """Seals every closed event that is not sealed yet, at most `most` a seal. Raises AuditError.

    The chain that is there is verified first. The seal's own key always counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        chain = read_seals(folder, {**keys, signer.key_id: signer.public})
        made: list[Seal] = []
        with reading(connection) as horizon:
            _same_database(chain, horizon, target)
            while True:
                both = [*chain, *made]
                found = _next(connection, both[-1] if both else None, horizon, target, most)
                if found is None:
                    return made
                made.append(_write(folder, *found, signer))


def _same_database(chain: list[Seal], horizon: Horizon, target: str) -> None:
    if chain and (chain[-1].database, chain[-1].target) != (horizon.database, target):
        raise AuditError(
            f"these are the seals of {chain[-1].target}, database {chain[-1].database}.",
            remedy="seal another database into another folder.",
        )
    if chain and horizon.xmin < chain[-1].end.xid:
        raise AuditError(
            "the database's transactions are behind its seals: it was replaced or restored.",
            remedy="keep the old seals with the old database's evidence, and begin a new folder.",
        )


def _next(
    connection: psycopg.Connection[Any], last: Seal | None, horizon: Horizon, target: str, most: int
) -> tuple[Seal, list[Event]] | None:
    start, end = last.end if last else START, Place(horizon.xmin, 0)
    if start >= end:
        return None
    events = list(leaves(connection, start, end, most))
    if len(events) == most:
        end = Place(events[-1].place.xid, events[-1].place.id + 1)
    root = root_hash([e.leaf for e in events]).hex()
    number, previous = (last.number + 1, last.digest) if last else (1, "")
    made = Seal(number, previous, start, end, len(events), root, horizon.time, horizon.xmax, target, horizon.database)
    return made, events


def _write(folder: Path, made: Seal, events: list[Event], signer: Signer) -> Seal:
    data = envelope(canonical(_payload(made)), signer, PAYLOAD_TYPE)
    packed = b"".join(_LEAF.pack(e.place.xid, e.place.id, e.leaf) for e in events)
    _store(folder / f"{made.number:08d}.leaves", packed)
    _store(folder / f"{made.number:08d}.seal.jsonl", data)
    return _read(made.number, data, {signer.key_id: signer.public})


def _store(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


def _payload(made: Seal) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "number": made.number,
        "previous": made.previous,
        "start": [made.start.xid, made.start.id],
        "end": [made.end.xid, made.end.id],
        "events": made.events,
        "root": made.root,
        "time": made.time.astimezone(UTC).isoformat(),
        "xmax": made.xmax,
        "target": made.target,
        "database": made.database,
    }


def read_seals(folder: Path, keys: Mapping[str, bytes]) -> list[Seal]:
    """The chain, verified: signatures, numbers, links, ranges without a gap. Raises AuditError, naming the seal."""
    chain: list[Seal] = []
    for number, path in enumerate(sorted(folder.glob("*.seal.jsonl")), 1):
        if path.name != f"{number:08d}.seal.jsonl":
            raise AuditError(f"seal {number} is missing: {path.name} follows.", remedy="restore the evidence folder.")
        found = _read(number, path.read_bytes(), keys)
        last = chain[-1] if chain else None
        expected = (last.digest, last.end) if last else ("", START)
        if found.number != number or (found.previous, found.start) != expected or found.end < found.start:
            raise AuditError(f"seal {number} does not follow the one before it.", remedy="restore the evidence folder.")
        chain.append(found)
    return chain


def _read(number: int, data: bytes, keys: Mapping[str, bytes]) -> Seal:
    try:
        body = load(open_envelope(data, keys, PAYLOAD_TYPE).payload, f"seal {number}")
        if body.pop("schema") != _SCHEMA:
            raise AuditError(f"seal {number} is of an unknown format.", remedy="use a newer tenantproof.")
        body["start"], body["end"] = Place(*body["start"]), Place(*body["end"])
        body["time"] = datetime.fromisoformat(body["time"])
        return Seal(**body, digest=hashlib.sha256(data).hexdigest())
    except VerificationError as error:
        raise AuditError(f"seal {number} does not verify: {error.message}", remedy=error.remedy) from error
    except (KeyError, TypeError, ValueError) as error:
        raise AuditError(f"seal {number} is malformed.", remedy="restore the evidence folder.") from error


def read_leaves(folder: Path, of: Seal) -> dict[Place, bytes] | None:
    """The stored leaves by place; None where they are gone, or are not those under the seal's root."""
    path = folder / f"{of.number:08d}.leaves"
    data = path.read_bytes() if path.is_file() else b""
    if len(data) != of.events * _LEAF.size:
        return None
    unpacked = list(_unpack(data))
    if root_hash([leaf for _, leaf in unpacked]).hex() != of.root:
        return None
    return dict(unpacked)


def _unpack(data: bytes) -> Iterator[tuple[Place, bytes]]:
    for xid, number, leaf in _LEAF.iter_unpack(data):
        yield Place(xid, number), leaf
