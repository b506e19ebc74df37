"""The log of runs: every finished run is one leaf, and a signed checkpoint says how many there are.

`<evidence>/log/entries.jsonl` holds a canonical JSON line a run, in the order in which they finished;
`<evidence>/log/checkpoint` is the signed note over them. A checkpoint that somebody kept shows later whether
a run was removed, replaced or reordered since.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest import merkle
from pytest_tenantproof.attest.bundle import BUNDLE_NAME, STATEMENT_FILE, TIMESTAMP_FILE, bundles
from pytest_tenantproof.attest.note import Checkpoint, signed_checkpoint
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.attest.strictjson import canonical, load
from pytest_tenantproof.errors import EvidenceError, VerificationError

__all__ = [
    "Entry",
    "append",
    "checkpoint_file",
    "entries_of",
    "entry_of",
    "leaves_of",
    "lines_of",
    "log_folder",
    "targets",
]

_FOLDER = "log"
_ORIGIN = "tenantproof-log"


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished run. `finished` is UTC, RFC 3339; the digests are of report.json, the statement and its
    timestamp ("" where there is none)."""

    run_id: str
    target: str
    finished: str
    verdict: str
    report_sha256: str
    statement_sha256: str
    timestamp_sha256: str = ""

    @property
    def line(self) -> bytes:
        """The leaf: canonical JSON."""
        return canonical(asdict(self))


def log_folder(root: Path) -> Path:
    return root / _FOLDER


def checkpoint_file(root: Path) -> Path:
    return log_folder(root) / "checkpoint"


def targets(root: Path) -> tuple[str, ...]:
    """Names of the targets that have bundles below `root`."""
    found = (path for path in root.iterdir() if path.is_dir() and path.name != _FOLDER) if root.is_dir() else ()
    return tuple(sorted(path.name for path in found if bundles(path)))


def lines_of(root: Path) -> list[bytes]:
    """The log's whole lines; one that was cut off by a crash is left out."""
    path = log_folder(root) / "entries.jsonl"
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1].splitlines()


def leaves_of(lines: Sequence[bytes]) -> list[bytes]:
    return [merkle.leaf_hash(line) for line in lines]


def entries_of(lines: Sequence[bytes]) -> tuple[Entry, ...]:
    """Raises VerificationError (log-malformed) for a line that is no entry."""
    found = []
    for number, line in enumerate(lines, 1):
        parsed = load(line, f"line {number} of the log")
        if set(parsed) != set(Entry.__dataclass_fields__) or not all(isinstance(v, str) for v in parsed.values()):
            raise VerificationError("log-malformed", f"line {number} of the log is no entry.")
        entry = Entry(**parsed)
        if entry.line != line or not BUNDLE_NAME.fullmatch(entry.run_id) or not _plain(entry.target):
            raise VerificationError("log-malformed", f"line {number} of the log is not as the tool writes it.")
        found.append(entry)
    return tuple(found)


def _plain(target: str) -> bool:
    return bool(target) and Path(target).name == target and target not in (".", "..", _FOLDER)


def entry_of(bundle: Path, report: Mapping[str, Any]) -> Entry:
    """The entry for a bundle on disk. Raises OSError when it cannot be read."""
    digests = [hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in ("report.json", STATEMENT_FILE)]
    if (bundle / TIMESTAMP_FILE).is_file():
        digests.append(hashlib.sha256((bundle / TIMESTAMP_FILE).read_bytes()).hexdigest())
    target, verdict = str(report["target"]["name"]), str(report["verdict"])
    return Entry(str(report["run_id"]), target, str(report["finished"]), verdict, *digests)


def append(root: Path, signer: Signer) -> Checkpoint:
    """Logs every bundle below `root` that the log lacks, oldest first, and signs a new checkpoint.

    A run that was killed after its bundle was written is so logged by the next one. Raises EvidenceError
    when the log cannot be written, or no longer is what its checkpoint says.
    """
    try:
        log_folder(root).mkdir(parents=True, exist_ok=True)
        with _alone(log_folder(root)):
            lines = lines_of(root)
            origin = _require_unchanged(root, lines)
            new = [entry.line for entry in _unlogged(root, lines)]
            if not checkpoint_file(root).exists():
                # Entries without any checkpoint are refused, so a first run that is killed below must not leave them.
                _sign(root, Checkpoint(origin, 0, merkle.root_hash([])), signer)
            _extend(log_folder(root) / "entries.jsonl", lines, new)
            lines += new
            checkpoint = Checkpoint(origin, len(lines), merkle.root_hash(leaves_of(lines)))
            _sign(root, checkpoint, signer)
            return checkpoint
    except OSError as error:
        raise EvidenceError(
            f"the log of runs could not be written: {error.strerror or error}.",
            remedy="check free space and permissions of --evidence-dir.",
        ) from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_unchanged(root: Path, lines: Sequence[bytes]) -> str:
    """The log's origin, when what its checkpoint covers is still there. A checkpoint's signature is checked by
    whoever verifies: the writer does not hold the keys of earlier runs."""
    path = checkpoint_file(root)
    if not path.exists():
        if lines:
            raise _changed("its checkpoint is missing")
        return f"{_ORIGIN}/{secrets.token_hex(8)}"
    text = path.read_text(encoding="utf-8").split("\n")
    size = int(text[1]) if len(text) > 3 and text[1].isdigit() else -1
    claimed = Checkpoint(text[0], size, merkle.root_hash(leaves_of(lines[: max(size, 0)])))
    if not 0 <= size <= len(lines) or not path.read_text(encoding="utf-8").startswith(claimed.text):
        raise _changed("its entries are not those of its checkpoint")
    return text[0]


def _changed(how: str) -> EvidenceError:
    return EvidenceError(
        f"the log of runs was changed: {how}.",
        remedy="keep the folder as it is, run `tenantproof verify --chain`, and start a new --evidence-dir.",
    )


def _unlogged(root: Path, lines: Sequence[bytes]) -> list[Entry]:
    try:
        logged = {(entry.target, entry.run_id) for entry in entries_of(lines)}
        found = [
            entry_of(path, load((path / "report.json").read_bytes(), "report.json"))
            for target in targets(root)
            for path in bundles(root / target)
            if (target, path.name) not in logged
        ]
    except (VerificationError, KeyError) as error:
        raise _changed(f"an entry or a bundle cannot be read ({error})") from error
    # A clock may be set back between runs; the ids of a target's runs grow all the same.
    return sorted(found, key=lambda entry: entry.run_id)


def _extend(path: Path, held: Sequence[bytes], new: Sequence[bytes]) -> None:
    with path.open("r+b" if path.exists() else "xb") as out:
        out.truncate(sum(len(line) + 1 for line in held))
        out.seek(0, os.SEEK_END)
        out.write(b"".join(line + b"\n" for line in new))
        out.flush()
        os.fsync(out.fileno())


def _sign(root: Path, checkpoint: Checkpoint, signer: Signer) -> None:
    path = checkpoint_file(root)
    part = path.with_suffix(".part")
    with part.open("wb") as out:
        out.write(signed_checkpoint(checkpoint, signer))
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)
