"""Writes a bundle whole or not at all: to a temporary name, synced, then renamed."""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest import dsse, keys
from pytest_tenantproof.attest.record import to_bytes
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.attest.statement import statement
from pytest_tenantproof.errors import EvidenceError

__all__ = [
    "ALERTS_FILE",
    "BUNDLE_NAME",
    "PUBLIC_KEY_FILE",
    "STATEMENT_FILE",
    "TIMESTAMP_FILE",
    "bundles",
    "next_run_id",
    "previous_of",
    "write_bundle",
]

BUNDLE_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_PART = ".part-"
STATEMENT_FILE = "statement.intoto.jsonl"
TIMESTAMP_FILE = "statement.tsr"
ALERTS_FILE = "statement.alerts.jsonl"
PUBLIC_KEY_FILE = "signing-key.pub"


def next_run_id(folder: Path, now: datetime) -> str:
    """<UTC yyyymmddThhmmssZ>-<8 hex>, greater than that of every bundle there: names sort as runs follow."""
    newest = max((path.name for path in bundles(folder)), default="")
    second = max(f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}", newest[:16])
    if second != newest[:16]:
        return f"{second}-{secrets.randbelow(2**31):08x}"
    return f"{second}-{int(newest[17:], 16) + 1 + secrets.randbelow(2**20):08x}"


def bundles(folder: Path) -> tuple[Path, ...]:
    """The complete bundles of one target, oldest first."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(path for path in folder.iterdir() if BUNDLE_NAME.fullmatch(path.name) and path.is_dir()))


def previous_of(folder: Path) -> dict[str, str] | None:
    """Run id and sha256 of the newest bundle's report, or None for the first one. Raises EvidenceError."""
    found = bundles(folder)
    if not found:
        return None
    try:
        data = (found[-1] / "report.json").read_bytes()
    except OSError as error:
        raise EvidenceError(
            f"the newest bundle {found[-1]} has no readable report: {error.strerror}.",
            remedy="restore it; evidence is chained, so none may be removed.",
        ) from error
    return {"run_id": found[-1].name, "sha256": hashlib.sha256(data).hexdigest()}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two runs of one target must not both follow the same predecessor."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_bundle(
    root: Path,
    target: str,
    signer: Signer,
    report_after: Callable[[str, dict[str, str] | None], Mapping[str, Any]],
    render: Mapping[str, Callable[[Mapping[str, Any]], bytes]],
    extra: Mapping[str, bytes] | None = None,
    stamp: Callable[[bytes], bytes | None] | None = None,
) -> Path:
    """Writes `root/target/<run id>/` and returns its path.

    `report_after` gives the report once its run id and the previous run are known; `render` maps file names to
    renderers of it; `stamp` gives a timestamp response over the signature's bytes, None where it may be missing.
    Raises EvidenceError; then no bundle is left behind.
    """
    folder = root / target
    try:
        with _alone(folder):
            report = report_after(next_run_id(folder, datetime.now(UTC)), previous_of(folder))
            files = {"report.json": to_bytes(report)}
            files |= {name: make(report) for name, make in render.items()} | dict(extra or {})
            if signer.ephemeral:
                files[PUBLIC_KEY_FILE] = keys.public_pem(signer.public).encode()
            files[STATEMENT_FILE] = dsse.envelope(statement(report, files), signer)
            if stamp and (response := stamp(dsse.signature_of(files[STATEMENT_FILE]))):
                files[TIMESTAMP_FILE] = response
            return _place(folder, str(report["run_id"]), files)
    except OSError as error:
        raise EvidenceError(
            f"the bundle could not be written below {folder}: {error.strerror or error}.",
            remedy="check free space and permissions of --evidence-dir.",
        ) from error


def _place(folder: Path, run_id: str, files: Mapping[str, bytes]) -> Path:
    part = folder / f"{_PART}{run_id}"
    for left in folder.glob(f"{_PART}*"):  # by runs that were killed: this one is alone
        shutil.rmtree(left, ignore_errors=True)
    try:
        part.mkdir()
        for name, data in files.items():
            with (part / name).open("xb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
        final = folder / run_id
        part.rename(final)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _sync(folder)
    return final


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
