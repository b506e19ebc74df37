"""verify, log: bundles checked offline, and the log of runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_tenantproof.cli.base import Answer, Verb
from pytest_tenantproof.cli.gate import check_gate, judge_by_policy, policy_arguments
from pytest_tenantproof.errors import UsageError, plain

if TYPE_CHECKING:
    from pytest_tenantproof.attest.verify import TrustedTime, Verified

__all__ = ["VERBS"]

_EPHEMERAL = " (ephemeral: integrity only)"


def _verify(options: argparse.Namespace) -> Answer:
    if options.policy:
        return judge_by_policy(options)
    from pytest_tenantproof.attest import keys
    from pytest_tenantproof.attest.proof import verify_proof
    from pytest_tenantproof.attest.rollup import verify_rollup
    from pytest_tenantproof.attest.verify import TrustedTime, Verified, verify_bundle
    from pytest_tenantproof.attest.vsa import is_summary

    trusted = [keys.read_public(Path(path)) for path in options.key]
    since = _read(options.since) if options.since else None
    time = TrustedTime(Path(options.tsa_root), required=not options.time_optional) if options.tsa_root else None
    found: list[Verified] = []
    lines: list[str] = []
    gates: list[dict[str, Any]] = []
    for path in map(Path, options.paths):
        if path.suffix == ".jsonl" and is_summary(_read(str(path))):
            said, gate = check_gate(_read(str(path)), trusted, options)
            lines.append(said)
            gates.append(gate)
        elif path.suffix == ".jsonl":
            predicate, more = verify_rollup(path, trusted, allow_ephemeral=options.allow_ephemeral)
            own = "" if trusted else _EPHEMERAL
            lines.append(f"ok {path}: {predicate['result']} over {len(more)} targets{own}")
            found += more
        elif options.chain:
            history, more = _verify_history(path, trusted, since, time, options)
            lines += history
            found += more
        else:
            found.append(verify_bundle(path, trusted, allow_ephemeral=options.allow_ephemeral, time=time))
    if options.proof:
        for path in map(Path, options.paths):
            current = verify_proof(
                _read(options.proof), path, trusted, since=since, allow_ephemeral=options.allow_ephemeral
            )
            lines.append(f"ok {path} is in {current.origin}, which has {current.size} runs")
    lines += [
        f"ok {v.path}: {v.target} {v.verdict}, key {v.key_id[:16]}{_EPHEMERAL if v.ephemeral else ''}"
        + (f", seen by the timestamp authority at {v.trusted_time:%Y-%m-%dT%H:%M:%SZ}" if v.trusted_time else "")
        for v in found
    ]
    lines += [f"{v.path}: an alert was not delivered: {problem}" for v in found for problem in v.untold]
    return 0, {"verified": [_told(v) for v in found], "gates": gates}, list(map(plain, lines))


def _told(v: "Verified") -> dict[str, Any]:
    return {
        "path": str(v.path),
        "run_id": v.run_id,
        "target": v.target,
        "verdict": v.verdict,
        "key_id": v.key_id,
        "ephemeral": v.ephemeral,
        "trusted_time": f"{v.trusted_time:%Y-%m-%dT%H:%M:%SZ}" if v.trusted_time else None,
        "untold": list(v.untold),
    }


def _verify_history(
    path: Path,
    trusted: list[bytes],
    since: bytes | None,
    time: "TrustedTime | None",
    options: argparse.Namespace,
) -> tuple[list[str], "tuple[Verified, ...]"]:
    """The whole evidence folder by its log, or one target's folder by its chain."""
    from pytest_tenantproof.attest import runlog
    from pytest_tenantproof.attest.verify import verify_chain
    from pytest_tenantproof.attest.verify_log import verify_log

    if since is None and not runlog.log_folder(path).exists() and not runlog.targets(path):
        runs = verify_chain(path, trusted, allow_ephemeral=options.allow_ephemeral, time=time)
        said = "each run follows the one before; whether newer ones were removed, the evidence folder's log shows"
        return [f"ok {path}: {said}"], runs
    current, found = verify_log(
        path, trusted, since=since, cosigners=_cosigners(options), allow_ephemeral=options.allow_ephemeral, time=time
    )
    own = "" if trusted else _EPHEMERAL
    return [f"ok {current.origin}: {current.size} runs, none removed, replaced or reordered{own}"], found


def _cosigners(options: argparse.Namespace) -> dict[str, bytes]:
    from pytest_tenantproof.attest import keys

    pairs = (given.partition("=") for given in options.cosigner)
    return {name: keys.read_public(Path(path)) for name, _, path in pairs}


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", remedy="correct the path.") from error


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="bundles, roll-ups, gates' answers, or with --chain the evidence folder",
    )
    parser.add_argument("--key", action="append", default=[], metavar="PUB", help="a trusted public key (PEM)")
    parser.add_argument("--chain", action="store_true", help="verify every bundle and that none is missing")
    parser.add_argument(
        "--since", metavar="CHECKPOINT", help="a checkpoint kept from earlier: nothing before it changed"
    )
    parser.add_argument(
        "--cosigner", action="append", default=[], metavar="NAME=PUB", help="who must have cosigned that checkpoint"
    )
    parser.add_argument("--tsa-root", metavar="PEM", help="pinned root of the timestamp authority: check trusted time")
    parser.add_argument("--time-optional", action="store_true", help="accept bundles without a timestamp")
    policy_arguments(parser)
    parser.add_argument("--proof", metavar="FILE", help="a proof by `tenantproof log prove`, in place of the log")
    parser.add_argument("--allow-ephemeral", action="store_true", help="accept keys that come with a scratch bundle")


def _log(options: argparse.Namespace) -> Answer:
    if options.action == "cosign":
        return _cosign(options)
    from pytest_tenantproof.attest.proof import prove

    if not options.bundle:
        raise UsageError("no bundle is named.", remedy="pass --bundle evidence/prod/<bundle>.")
    proof = prove(Path(options.bundle), since=options.since_size)
    Path(options.out).write_bytes(proof)
    return 0, {"proof": options.out}, [f"wrote {options.out}"]


def _cosign(options: argparse.Namespace) -> Answer:
    import time

    from pytest_tenantproof.attest import keys, note

    signer = keys.load_signer()
    if signer is None:
        raise UsageError("no key to cosign with.", remedy=f"set {keys.KEY_FILE_VARIABLE} to the auditor's key.")
    trusted = [keys.read_public(Path(path)) for path in options.key]
    seen = _read(options.checkpoint)
    checkpoint = note.open_checkpoint(seen, trusted)
    Path(options.out).write_bytes(note.add_cosignature(seen, options.name, signer, int(time.time())))
    return 0, {"cosigned": options.out, "size": checkpoint.size}, [f"wrote {options.out}: {checkpoint.size} runs seen"]


def _log_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["prove", "cosign"], help="prove a bundle's place; cosign a checkpoint")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the proof or cosigned checkpoint goes")
    parser.add_argument("--bundle", metavar="DIR", help="prove: the bundle")
    parser.add_argument("--since-size", type=int, default=0, metavar="N", help="prove: also that the first N stand")
    parser.add_argument("--checkpoint", metavar="FILE", default="evidence/log/checkpoint", help="cosign: what was seen")
    parser.add_argument("--key", action="append", default=[], metavar="PUB", help="cosign: key that signed it (PEM)")
    parser.add_argument("--name", default="auditor", help="cosign: in whose name")


VERBS = {
    "verify": Verb(
        "verify bundles offline",
        "tenantproof verify --key tenantproof.pub evidence/prod/20261123T020000Z-0a1b2c3d",
        _verify,
        _verify_arguments,
    ),
    "log": Verb(
        "show a bundle's place in the log of runs; cosign a checkpoint",
        "tenantproof log prove --bundle evidence/prod/20261123T020000Z-0a1b2c3d --out proof.json",
        _log,
        _log_arguments,
    ),
}
