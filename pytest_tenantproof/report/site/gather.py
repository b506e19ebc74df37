"""Reads bundles for the dashboard: each is verified, or says why it is not. What did not change is not read twice."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest import runlog, sign
from pytest_tenantproof.attest.bundle import bundles
from pytest_tenantproof.attest.record import check_schema
from pytest_tenantproof.attest.strictjson import LARGEST, load
from pytest_tenantproof.attest.verify import Verified, verify_bundle
from pytest_tenantproof.errors import SigningKeyError, VerificationError
from pytest_tenantproof.report.site.summary import Summary, summarise

__all__ = ["STATES", "Cache", "Seen", "Trust", "gather"]

STATES = ("verified", "integrity", "unverified", "refused")
_MANY = 24


@dataclass(frozen=True, slots=True)
class Trust:
    """Raw public keys to verify with, and whether a key that comes with a bundle shows its integrity."""

    keys: tuple[bytes, ...] = ()
    allow_ephemeral: bool = False

    @property
    def digest(self) -> str:
        return ",".join([*sorted(map(sign.key_id, self.keys)), str(self.allow_ephemeral)])


@dataclass(frozen=True, slots=True)
class Seen:
    """One bundle. `state`: verified (by a trusted key), integrity (by the key in it), unverified (by no known
    key) or refused (not what was signed, or no bundle); `reason` and `message` say why it is not verified.

    `summary` is what it claims, None where that cannot be read. `folder` is the target whose history it is in.
    """

    folder: str
    run_id: str
    digest: str
    state: str
    reason: str = ""
    message: str = ""
    key_id: str = ""
    report_sha256: str = ""
    summary: Summary | None = None

    def to_json(self) -> dict[str, Any]:
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return told | {"summary": self.summary.to_json() if self.summary else None}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Seen":
        return cls(**data | {"summary": Summary.from_json(data["summary"]) if data["summary"] else None})


Cache = Mapping[str, Seen]
"""By digest of bundle and trust."""


def gather(root: Path, trust: Trust, cache: Cache) -> tuple[Seen, ...]:
    """Every bundle below `root`, by target, oldest first. Every byte is hashed; what the cache knows is not parsed
    and verified again."""
    paths = [path for target in runlog.targets(root) for path in bundles(root / target)]
    digests = {path: _digest(path, trust) for path in paths}
    fresh = [path for path in paths if digests[path] not in cache]
    examined = dict(zip(fresh, _examine_all(fresh, trust, digests), strict=True))
    return tuple(examined.get(path) or cache[digests[path]] for path in paths)


def _examine_all(paths: Sequence[Path], trust: Trust, digests: Mapping[Path, str]) -> Iterable[Seen]:
    examine = partial(_examine, trust=trust)
    given = [digests[path] for path in paths]
    if len(paths) < _MANY:
        return map(examine, paths, given)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(examine, paths, given, chunksize=8))


def _digest(path: Path, trust: Trust) -> str:
    """Of everything that a bundle's state follows from: its place, its files and the trusted keys."""
    whole = hashlib.sha256(json.dumps([path.parent.name, path.name, path.is_symlink(), trust.digest]).encode())
    for entry in sorted(path.iterdir()):
        whole.update(json.dumps([entry.name, *_content(entry)]).encode())
    return whole.hexdigest()


def _content(entry: Path) -> Iterator[str]:
    """Neither links are followed, nor devices read, nor what is refused for its size."""
    found = entry.lstat()
    yield str(stat.S_IFMT(found.st_mode))
    if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST:
        with entry.open("rb") as opened:
            yield hashlib.file_digest(opened, "sha256").hexdigest()


def _examine(path: Path, digest: str, trust: Trust) -> Seen:
    seen = partial(Seen, path.parent.name, path.name, digest)
    try:
        found = _verified(path, trust)
    except (VerificationError, SigningKeyError) as error:
        reason = error.reason if isinstance(error, VerificationError) else "key-unknown"
        state = "unverified" if reason == "key-unknown" else "refused"
        return seen(state, reason, error.message, summary=_claimed(path))
    state = "integrity" if found.ephemeral else "verified"
    return seen(state, key_id=found.key_id, report_sha256=found.report_sha256, summary=summarise(found.report))


def _verified(path: Path, trust: Trust) -> Verified:
    found = verify_bundle(path, trust.keys, allow_ephemeral=trust.allow_ephemeral)
    if found.target != path.parent.name:
        raise VerificationError("report-inconsistent", f"this is a run of {found.target!r}.")
    return found


def _claimed(path: Path) -> Summary | None:
    """What an unverified bundle says of itself, if that can be read at all."""
    file = path / "report.json"
    if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
        return None
    try:
        report = load(file.read_bytes(), "report.json")
    except VerificationError:
        return None
    return None if check_schema(report) else summarise(report)
