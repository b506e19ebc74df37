"""policy: signs what makes evidence acceptable; `verify --policy` judges the newest evidence by it."""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest_tenantproof
from pytest_tenantproof.cli.base import Answer, Verb
from pytest_tenantproof.errors import UsageError, VerificationError, plain

__all__ = ["VERBS", "check_gate", "judge_by_policy", "policy_arguments"]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", remedy="correct the path.") from error


def _policy(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.attest import dsse, keys, policy

    signer = keys.load_signer()
    if signer is None:
        raise UsageError("no key to sign the policy with.", remedy=f"set {keys.KEY_FILE_VARIABLE}.")
    payload = _read(options.file)
    found = policy.parse_policy(payload)
    Path(options.out).write_bytes(dsse.envelope(payload, signer, policy.PAYLOAD_TYPE))
    return 0, {"policy": options.out, "sha256": found.sha256}, [f"wrote {options.out}: {found.name}"]


def _policy_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="JSON", help="the policy (docs/VERIFYING.md)")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the signed policy goes")


def judge_by_policy(options: argparse.Namespace) -> Answer:
    """One yes or no for the evidence folder. Raises VerificationError (policy-refused) with every reason."""
    from pytest_tenantproof.attest import keys, policy
    from pytest_tenantproof.attest.vsa import summary

    writers = [keys.read_public(Path(path)) for path in options.policy_key]
    accepted = policy.open_policy(_read(options.policy), writers)
    folder, now = Path(options.paths[0]), datetime.now(UTC)
    roots = Path(options.tsa_root) if options.tsa_root else None
    since = _read(options.since) if options.since else None
    decision = policy.decide(accepted, folder, now, roots=roots, since=since)
    if options.vsa:
        _write_summary(options.vsa, summary(accepted, decision, now, version=pytest_tenantproof.__version__))
    if not decision.accepted:
        raise VerificationError(
            "policy-refused", "the evidence is not acceptable: " + "; ".join(decision.reasons) + "."
        )
    lines = [plain(f"yes: {v.target} {v.run_id}") for v in decision.bundles]
    return 0, {"accepted": True, "bundles": [str(v.path) for v in decision.bundles]}, lines


def check_gate(data: bytes, trusted: list[bytes], options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """What a verification summary says, for a pipeline that deploys. Raises VerificationError (gate-refused)."""
    from pytest_tenantproof.attest.vsa import open_summary, require_gate

    if not options.deploy:
        raise UsageError("a verification summary is of some target.", remedy="name what is deployed with --deploy.")
    gate = open_summary(data, trusted)
    require_gate(gate, options.deploy, datetime.now(UTC), timedelta(hours=options.max_age_hours))
    told = {"policy": gate.policy, "policy_sha256": gate.policy_sha256, "at": f"{gate.at:%Y-%m-%dT%H:%M:%SZ}"}
    return f"yes: {options.deploy}, by policy {gate.policy} ({gate.policy_sha256[:16]}) at {told['at']}", told


def _write_summary(path: str, statement: bytes) -> None:
    from pytest_tenantproof.attest import dsse, keys

    signer = keys.load_signer()
    if signer is None:
        raise UsageError("no key to sign the verification summary with.", remedy=f"set {keys.KEY_FILE_VARIABLE}.")
    Path(path).write_bytes(dsse.envelope(statement, signer))


def policy_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `verify --policy`."""
    parser.add_argument("--policy", metavar="FILE", help="one yes or no for an evidence folder, by this signed policy")
    parser.add_argument("--policy-key", action="append", default=[], metavar="PUB", help="who may write policies")
    parser.add_argument("--deploy", metavar="T", help="for a verification summary: the target that is to be deployed")
    parser.add_argument("--max-age-hours", type=float, default=24, metavar="H", help="how old it may be (24)")
    parser.add_argument("--vsa", metavar="FILE", help="with --policy: the answer as a signed SLSA verification summary")


VERBS = {
    "policy": Verb(
        "sign what makes evidence acceptable",
        "tenantproof policy policy.json --out policy.dsse.json",
        _policy,
        _policy_arguments,
    ),
}
