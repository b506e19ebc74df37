"""A small file that shows one bundle's place in the log, and that the log only grew, without the log itself."""

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest import merkle, note, runlog
from pytest_tenantproof.attest.note import Checkpoint
from pytest_tenantproof.attest.strictjson import canonical, load
from pytest_tenantproof.attest.verify import verify_bundle
from pytest_tenantproof.errors import VerificationError

__all__ = ["prove", "verify_proof"]

_SCHEMA = "tenantproof/log-proof/1"


def _encoded(path: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(node).decode() for node in path]


def prove(bundle: Path, *, since: int = 0) -> bytes:
    """The proof that `bundle` is in the log beside it; with `since`, also that the log's first `since` runs are
    unchanged. Raises VerificationError: log-missing, log-run-unlogged, log-truncated."""
    root = bundle.resolve().parents[1]
    lines = runlog.lines_of(root)
    file = runlog.checkpoint_file(root)
    if not file.is_file():
        raise VerificationError("log-missing", f"{root} has no log of runs.", remedy="name a bundle in its folder.")
    entries = runlog.entries_of(lines)
    name = (bundle.resolve().parent.name, bundle.resolve().name)
    index = next((i for i, e in enumerate(entries) if (e.target, e.run_id) == name), -1)
    if index < 0:
        raise VerificationError("log-run-unlogged", f"{bundle} is not in the log.")
    if since > len(lines):
        raise VerificationError("log-truncated", f"the log had {since} runs, and now has {len(lines)}.")
    leaves = runlog.leaves_of(lines)
    return canonical(
        {
            "schema": _SCHEMA,
            "index": index,
            "entry": lines[index].decode("ascii"),
            "inclusion": _encoded(merkle.inclusion_proof(leaves, index)),
            "consistency": _encoded(merkle.consistency_proof(leaves, since)) if since else [],
            "checkpoint": file.read_text(encoding="utf-8"),
        }
    )


def verify_proof(
    proof: bytes,
    bundle: Path,
    trusted: Sequence[bytes],
    *,
    since: bytes | None = None,
    allow_ephemeral: bool = False,
) -> Checkpoint:
    """Verifies bundle, checkpoint and proof. `since` is a checkpoint kept from earlier.

    Raises VerificationError: those of `verify`, proof-malformed, proof-invalid, log-run-replaced, log-forked.
    """
    parsed = load(proof, "the proof")
    verified = verify_bundle(bundle, trusted, allow_ephemeral=allow_ephemeral)
    entry, index, inclusion, consistency, signed = _fields(parsed)
    if runlog.entry_of(bundle, verified.report).line != entry:
        raise VerificationError("log-run-replaced", f"{bundle} is not the run that was logged.")
    current = note.open_checkpoint(signed, trusted)
    if not merkle.verify_inclusion(merkle.leaf_hash(entry), index, current.size, inclusion, current.root):
        raise VerificationError("proof-invalid", "the proof does not lead from this run to the checkpoint.")
    if since is not None:
        old = note.open_checkpoint(since, trusted)
        same = old.origin == current.origin
        if not same or not merkle.verify_consistency(old.size, old.root, current.size, current.root, consistency):
            raise VerificationError(
                "log-forked", "the kept checkpoint is not shown to be an earlier state of this log."
            )
    return current


def _fields(parsed: dict[str, Any]) -> tuple[bytes, int, list[bytes], list[bytes], bytes]:
    try:
        if parsed.pop("schema") != _SCHEMA or type(parsed["index"]) is not int:
            raise VerificationError("proof-malformed", f"the proof is not of schema {_SCHEMA}.")
        found = (
            parsed.pop("entry").encode("ascii"),
            parsed.pop("index"),
            [base64.b64decode(node, validate=True) for node in parsed.pop("inclusion")],
            [base64.b64decode(node, validate=True) for node in parsed.pop("consistency")],
            parsed.pop("checkpoint").encode(),
        )
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        raise VerificationError("proof-malformed", "the proof lacks a field, or one is not of its type.") from None
    if parsed:
        raise VerificationError("proof-malformed", f"the proof has an unknown field {next(iter(parsed))!r}.")
    return found
