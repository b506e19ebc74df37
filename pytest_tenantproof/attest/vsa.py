"""The answer of a gate as a verification summary (SLSA VSA v1): written once, checked by whoever deploys."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pytest_tenantproof.attest import dsse, sign
from pytest_tenantproof.attest.bundle import STATEMENT_FILE
from pytest_tenantproof.attest.policy import Decision, Policy
from pytest_tenantproof.attest.statement import STATEMENT
from pytest_tenantproof.attest.strictjson import canonical, load
from pytest_tenantproof.errors import VerificationError

__all__ = ["SUMMARY", "Gate", "is_summary", "open_summary", "require_gate", "summary"]

SUMMARY = "https://slsa.dev/verification_summary/v1"
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Gate:
    """What a summary says: whether the policy of that name and digest accepted the targets' evidence, and when."""

    accepted: bool
    policy: str
    policy_sha256: str
    targets: tuple[str, ...]
    at: datetime


def summary(policy: Policy, decision: Decision, now: datetime, *, version: str) -> bytes:
    """The canonical bytes of the verification summary, to be signed (SLSA VSA v1)."""
    judged = [
        {
            "uri": f"evidence/{v.target}/{v.run_id}",
            "digest": {"sha256": hashlib.sha256((v.path / STATEMENT_FILE).read_bytes()).hexdigest()},
        }
        for v in decision.bundles
    ]
    subjects = [
        {"name": f"{v.target}/{v.run_id}/report.json", "digest": {"sha256": v.report_sha256}} for v in decision.bundles
    ]
    predicate = {
        "verifier": {"id": "https://pytest-tenantproof.example/verify", "version": {"pytest-tenantproof": version}},
        "timeVerified": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "resourceUri": ",".join(policy.targets),
        "policy": {"uri": policy.name, "digest": {"sha256": policy.sha256}},
        "inputAttestations": judged,
        "verificationResult": "PASSED" if decision.accepted else "FAILED",
        "verifiedLevels": ["TENANTPROOF_PROVEN"] if decision.accepted else ["FAILED"],
        "slsaVersion": "1.0",
    }
    return canonical({"_type": STATEMENT, "predicateType": SUMMARY, "subject": subjects, "predicate": predicate})


def is_summary(data: bytes) -> bool:
    """Whether an envelope claims to hold one; unverified."""
    try:
        payload = base64.b64decode(load(data, "the envelope")["payload"])
        return load(payload, "the statement").get("predicateType") == SUMMARY
    except (VerificationError, KeyError, TypeError, ValueError):
        return False


def open_summary(data: bytes, trusted: Sequence[bytes]) -> Gate:
    """Verifies a summary with the raw public keys of whom the pipeline believes.

    Raises VerificationError: statement-malformed, and those of an envelope.
    """
    opened = dsse.open_envelope(data, {sign.key_id(key): key for key in trusted})
    statement = load(opened.payload, "the statement")
    if (statement.get("_type"), statement.get("predicateType")) != (STATEMENT, SUMMARY):
        raise VerificationError("statement-malformed", "this is no verification summary.")
    told: Any = statement.get("predicate")
    try:
        return Gate(
            told["verificationResult"] == "PASSED" and bool(statement["subject"]),
            str(told["policy"]["uri"]),
            str(told["policy"]["digest"]["sha256"]),
            tuple(told["resourceUri"].split(",")),
            datetime.strptime(told["timeVerified"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise VerificationError("statement-malformed", "the verification summary lacks a field.") from None


def require_gate(gate: Gate, target: str, now: datetime, max_age: timedelta) -> None:
    """Raises VerificationError (gate-refused) unless the summary lets this target be deployed now."""
    problem = ""
    if not gate.accepted:
        problem = f"policy {gate.policy!r} did not accept the evidence"
    elif target not in gate.targets:
        problem = f"it is of {', '.join(gate.targets)}, not of {target}"
    elif not -_SKEW <= now - gate.at <= max_age:
        problem = f"it was made at {gate.at:%Y-%m-%dT%H:%M:%SZ}, and may be {max_age} old"
    if problem:
        raise VerificationError("gate-refused", f"the gate is closed: {problem}.", remedy="verify --policy again.")
