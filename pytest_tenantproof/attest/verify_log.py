"""Verifies the log of runs and every bundle in it. Reason codes, beside those of `verify`:

checkpoint-malformed log-missing log-malformed log-truncated log-unsigned log-changed log-forked
log-replaced log-reordered log-run-removed log-run-replaced log-run-unlogged cosignature-missing
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from pytest_tenantproof.attest import keys, merkle, note, runlog
from pytest_tenantproof.attest.bundle import PUBLIC_KEY_FILE, bundles
from pytest_tenantproof.attest.note import Checkpoint
from pytest_tenantproof.attest.runlog import Entry
from pytest_tenantproof.attest.verify import TrustedTime, Verified, check_history, verify_bundle
from pytest_tenantproof.errors import VerificationError

__all__ = ["open_log", "verify_log"]

_SKEW = timedelta(minutes=5)


def verify_log(
    root: Path,
    trusted: Sequence[bytes],
    *,
    since: bytes | None = None,
    cosigners: Mapping[str, bytes] | None = None,
    allow_ephemeral: bool = False,
    time: TrustedTime | None = None,
) -> tuple[Checkpoint, tuple[Verified, ...]]:
    """Verifies checkpoint, log and bundles below `root`; with `since`, a checkpoint kept from earlier, also
    that nothing before it has changed. `cosigners` (name -> raw public key) must each have signed it.

    Raises VerificationError with a reason code; the message names the run.
    """
    current, entries = open_log(root, trusted, since=since, cosigners=cosigners, allow_ephemeral=allow_ephemeral)
    found = tuple(_check_run(root, entry, trusted, allow_ephemeral, time) for entry in entries)
    for target in runlog.targets(root):
        check_history(target, [run for entry, run in zip(entries, found, strict=True) if entry.target == target])
    return current, found


def open_log(
    root: Path,
    trusted: Sequence[bytes],
    *,
    since: bytes | None = None,
    cosigners: Mapping[str, bytes] | None = None,
    allow_ephemeral: bool = False,
) -> tuple[Checkpoint, tuple[Entry, ...]]:
    """As verify_log, without what is in the bundles: the log is whole, and has exactly the bundles that are there.

    With `trusted` keys, one of them must have signed the checkpoint, whatever `allow_ephemeral` says of bundles.
    """
    # A key that came with a bundle could be anybody's: it signs the log only where nobody is trusted to.
    known = trusted or (_own_keys(root) if allow_ephemeral else ())
    lines, current = runlog.lines_of(root), _current(root, known)
    _check_size(current, lines)
    if since is not None:
        _check_since(since, known, cosigners or {}, current, lines)
    elif cosigners:
        raise VerificationError("cosignature-missing", "no kept checkpoint was given.", remedy="pass it with --since.")
    entries = runlog.entries_of(lines)
    _check_order(entries)
    _check_complete(root, entries)
    return current, entries


def _own_keys(root: Path) -> list[bytes]:
    files = (path / PUBLIC_KEY_FILE for target in runlog.targets(root) for path in bundles(root / target))
    return [keys.read_public(file) for file in files if file.is_file() and not file.is_symlink()]


def _current(root: Path, known: Sequence[bytes]) -> Checkpoint:
    path = runlog.checkpoint_file(root)
    if not path.is_file():
        raise VerificationError("log-missing", f"{root} has no log of runs.", remedy="name the evidence folder.")
    return note.open_checkpoint(path.read_bytes(), known)


def _check_size(current: Checkpoint, lines: Sequence[bytes]) -> None:
    if len(lines) < current.size:
        raise VerificationError("log-truncated", f"{current.size - len(lines)} runs were removed from the log's end.")
    if len(lines) > current.size:
        raise VerificationError(
            "log-unsigned", f"{len(lines) - current.size} entries follow the signed checkpoint.", remedy="run again."
        )
    if merkle.root_hash(runlog.leaves_of(lines)) != current.root:
        raise VerificationError("log-changed", "an entry of the log is not the one that was signed.")


def _check_since(
    since: bytes,
    known: Sequence[bytes],
    cosigners: Mapping[str, bytes],
    current: Checkpoint,
    lines: Sequence[bytes],
) -> None:
    old = note.open_checkpoint(since, known)
    if missing := sorted(set(cosigners) - set(note.cosigned_at(since, cosigners))):
        raise VerificationError("cosignature-missing", f"the kept checkpoint is not cosigned by {', '.join(missing)}.")
    if old.origin != current.origin:
        raise VerificationError(
            "log-replaced", f"this log is {current.origin}, the kept checkpoint is of {old.origin}."
        )
    if old.size > current.size:
        raise VerificationError("log-truncated", f"the log had {old.size} runs, and now has {current.size}.")
    if merkle.root_hash(runlog.leaves_of(lines[: old.size])) != old.root:
        raise VerificationError("log-forked", f"the first {old.size} runs are not those of the kept checkpoint.")


def _check_order(entries: Sequence[Entry]) -> None:
    seen: set[tuple[str, str]] = set()
    newest: dict[str, Entry] = {}
    for entry in entries:
        before = newest.get(entry.target)
        if (entry.target, entry.run_id) in seen:
            raise VerificationError("log-reordered", f"run {entry.run_id} is logged twice.")
        if before is not None and (entry.run_id < before.run_id or _earlier(entry.finished, before.finished)):
            raise VerificationError(
                "log-reordered", f"run {entry.run_id} is logged after {before.run_id}, a later run."
            )
        seen.add((entry.target, entry.run_id))
        newest[entry.target] = entry


def _earlier(finished: str, before: str) -> bool:
    """Whether a run claims to have finished before its predecessor by more than clocks are off."""
    return datetime.fromisoformat(finished) < datetime.fromisoformat(before) - _SKEW


def _check_complete(root: Path, entries: Sequence[Entry]) -> None:
    logged = {(entry.target, entry.run_id) for entry in entries}
    there = {(target, path.name) for target in runlog.targets(root) for path in bundles(root / target)}
    for target, run_id in sorted(logged - there):
        raise VerificationError("log-run-removed", f"run {run_id} of {target} is in the log, and its bundle is gone.")
    for target, run_id in sorted(there - logged):
        raise VerificationError("log-run-unlogged", f"run {run_id} of {target} has a bundle, and is not in the log.")


def _check_run(
    root: Path, entry: Entry, trusted: Sequence[bytes], allow_ephemeral: bool, time: TrustedTime | None
) -> Verified:
    path = root / entry.target / entry.run_id
    verified = verify_bundle(path, trusted, allow_ephemeral=allow_ephemeral, time=time)
    if runlog.entry_of(path, verified.report) != entry:
        raise VerificationError("log-run-replaced", f"run {entry.run_id} of {entry.target} is not the one logged.")
    return verified
