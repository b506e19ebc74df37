"""What makes evidence acceptable: a signed policy, one yes or no with reasons, and a gate attestation.

The policy is a DSSE envelope over a JSON document (docs/VERIFYING.md); the answer is an in-toto Statement with
the predicate https://slsa.dev/verification_summary/v1, for a deploy pipeline to check.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest import dsse, keys, runlog, sign
from pytest_tenantproof.attest.bundle import bundles
from pytest_tenantproof.attest.strictjson import load
from pytest_tenantproof.attest.verify import TrustedTime, Verified, verify_bundle
from pytest_tenantproof.attest.verify_log import open_log
from pytest_tenantproof.errors import SigningKeyError, VerificationError

__all__ = ["PAYLOAD_TYPE", "Decision", "Key", "Policy", "decide", "open_policy", "parse_policy"]

PAYLOAD_TYPE = "application/vnd.tenantproof.policy+json"
_SCHEMA = "tenantproof/policy/1"
_FIELDS: dict[str, Any] = {
    "schema": str,
    "name": str,
    "keys": list,
    "targets": list,
    "controls": list,
    "scope": str,
    "max_age_hours": (int, float),
    "waivers": bool,
    "timestamp": bool,
    "not_applicable": list,
    "log": bool,
}
_OPTIONAL: dict[str, Any] = {
    "controls": ["*"],
    "scope": "",
    "waivers": False,
    "timestamp": False,
    "not_applicable": [],
    "log": True,
}
_LONGEST_HOURS = 24 * 366 * 10


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key and when it counts. `revoked`: from when on nothing that it signed is believed."""

    public: bytes
    not_before: datetime
    not_after: datetime
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """`controls` are patterns of ids that must have passed; of these, `not_applicable` may be that instead. `scope`
    is a marker, "" the whole catalogue. `log`: the log of runs must be there, so that no newer run was removed."""

    name: str
    keys: tuple[Key, ...]
    targets: tuple[str, ...]
    controls: tuple[str, ...]
    scope: str
    max_age: timedelta
    waivers: bool
    timestamp: bool
    not_applicable: tuple[str, ...]
    log: bool
    sha256: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes when there is no reason against it. `bundles` are those that were judged, one of each target."""

    reasons: tuple[str, ...]
    bundles: tuple[Verified, ...]

    @property
    def accepted(self) -> bool:
        return not self.reasons


def open_policy(data: bytes, trusted: Sequence[bytes]) -> Policy:
    """Verifies a signed policy with the raw public keys of who may write one. Raises VerificationError."""
    opened = dsse.open_envelope(data, {sign.key_id(key): key for key in trusted}, PAYLOAD_TYPE)
    return parse_policy(opened.payload)


def parse_policy(payload: bytes) -> Policy:
    """The policy in a document. Raises VerificationError (policy-malformed) naming the field."""
    given: dict[str, Any] = _OPTIONAL | load(payload, "the policy")
    for name, kind in _FIELDS.items():
        if name not in given or not isinstance(given[name], kind) or (isinstance(given[name], bool) != (kind is bool)):
            raise _malformed(f"field {name!r} is missing or of the wrong type")
    if extra := sorted(set(given) - set(_FIELDS)):
        raise _malformed(f"field {extra[0]!r} is unknown")
    if given["schema"] != _SCHEMA:
        raise _malformed(f"its schema is not {_SCHEMA}")
    for name in ("targets", "controls", "not_applicable"):
        if not all(isinstance(item, str) and item for item in given[name]):
            raise _malformed(f"{name!r} must list texts")
    if not all(given[name] for name in ("targets", "controls", "keys")):
        raise _malformed("it needs at least one target, one control and one key")
    if any(Path(name).name != name or name == ".." for name in given["targets"]):
        raise _malformed("a target's name is no path")
    if not 0 < given["max_age_hours"] <= _LONGEST_HOURS:
        raise _malformed(f"max_age_hours must be more than 0, and {_LONGEST_HOURS} at most")
    found = tuple(_key(item) for item in given["keys"])
    if len({key.public for key in found}) != len(found):
        raise _malformed("a key is listed twice")
    return Policy(
        given["name"],
        found,
        tuple(given["targets"]),
        tuple(given["controls"]),
        given["scope"],
        timedelta(hours=given["max_age_hours"]),
        given["waivers"],
        given["timestamp"],
        tuple(given["not_applicable"]),
        given["log"],
        hashlib.sha256(payload).hexdigest(),
    )


def _malformed(problem: str) -> VerificationError:
    return VerificationError(
        "policy-malformed", f"the policy is not usable: {problem}.", remedy="correct it, and sign it."
    )


def _key(item: Any) -> Key:
    if not isinstance(item, dict) or not {"pem", "not_before", "not_after"} <= set(item) <= {
        *("pem", "not_before", "not_after", "revoked"),
    }:
        raise _malformed("a key needs pem, not_before and not_after, and may have revoked")
    try:
        times = {name: _time(item[name]) for name in ("not_before", "not_after", "revoked") if name in item}
        public = keys.load_public(item["pem"], "a key of the policy")
    except (TypeError, ValueError) as error:
        raise _malformed(f"a key's dates must be RFC 3339 ({error})") from None
    except SigningKeyError as error:
        raise _malformed(error.message) from None
    return Key(public, times["not_before"], times["not_after"], times.get("revoked"))


def _time(text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def decide(
    policy: Policy, root: Path, now: datetime, *, roots: Path | None = None, since: bytes | None = None
) -> Decision:
    """Judges, of each target below the evidence folder `root`, the newest bundle of the policy's scope.

    `roots`: the TSA's, as PEM. `since`: a checkpoint kept from earlier, which the log must continue.
    """
    reasons: list[str] = list(_log_problems(policy, root, since))
    judged: list[Verified] = []
    for target in policy.targets:
        reasons += [f"{target}: {reason}" for reason in _judge(policy, root / target, now, roots, judged)]
    return Decision(tuple(reasons), tuple(judged))


def _log_problems(policy: Policy, root: Path, since: bytes | None) -> Iterator[str]:
    """A newer run that was removed or hidden is still in the log."""
    if policy.log or since is not None or runlog.log_folder(root).exists():
        try:
            open_log(root, [key.public for key in policy.keys], since=since)
        except VerificationError as error:
            yield f"the log of runs does not hold ({error.reason}): {error.message}"


def _judge(policy: Policy, folder: Path, now: datetime, roots: Path | None, judged: list[Verified]) -> Iterator[str]:
    """Runs of another scope are no proof; what they know later than the judged one counts against it."""
    other, known = "there is no evidence", set[str]()
    for path in reversed(bundles(folder)):
        try:
            verified = _verified(policy, path, roots)
        except VerificationError as error:
            yield f"{path.name} does not verify ({error.reason}): {error.message}"
            return
        if verified.target != folder.name:
            yield f"{path.name} is a run of {verified.target}"
            return
        problem = _scope_problem(policy, verified.report["scope"])
        if not problem:
            judged.append(verified)
            yield from _against(policy, verified, now)
            return
        other = other if known else problem
        yield from _failed_since(policy, verified, known)
    yield other


def _failed_since(policy: Policy, newer: Verified, known: set[str]) -> Iterator[str]:
    for control in newer.report["controls"]:
        name, outcome = control["id"], control["outcome"]
        if name in known or outcome not in ("passed", "failed", "error"):
            continue
        known.add(name)
        excused = outcome == "passed" or (control["waiver"] and policy.waivers)
        if not excused and _matches(name, policy.controls):
            yield f"{name} is {outcome} in the newer run {newer.run_id}"


def _verified(policy: Policy, path: Path, roots: Path | None) -> Verified:
    if policy.timestamp and roots is None:
        raise VerificationError(
            "timestamp-missing", "the policy asks for trusted time.", remedy="pass the authority's root (--tsa-root)."
        )
    time = TrustedTime(roots, required=policy.timestamp) if roots else None
    return verify_bundle(path, [key.public for key in policy.keys], time=time)


def _against(policy: Policy, bundle: Verified, now: datetime) -> Iterator[str]:
    report = bundle.report
    finished = datetime.fromisoformat(report["finished"])
    made = bundle.trusted_time or finished
    yield from _key_problems(policy, bundle, made)
    if bundle.verdict != "proven":
        yield f"the verdict is {bundle.verdict}"
    if made > now + timedelta(minutes=5):
        yield f"the evidence is from the future ({made:%Y-%m-%dT%H:%M:%SZ})"
    # Anybody may have an old signature stamped again: a later timestamp makes nothing younger.
    if (age := now - min(finished, made)) > policy.max_age:
        yield f"the evidence is {_hours(age)} old, older than {_hours(policy.max_age)}"
    yield from _control_problems(policy, report)


def _scope_problem(policy: Policy, scope: Mapping[str, Any]) -> str:
    whole = scope["expression"] or scope["selected"] == scope["of"]
    if scope["narrowed"] or not whole or scope["expression"] not in ("", policy.scope):
        return f"the scope is {scope['expression'] or 'partial'}, not {policy.scope or 'the whole catalogue'}"
    return ""


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f} h"


def _key_problems(policy: Policy, bundle: Verified, made: datetime) -> Iterator[str]:
    """A time that the signer wrote proves nothing once the key is lost: then only trusted time counts."""
    key = next(k for k in policy.keys if sign.key_id(k.public) == bundle.key_id)
    if not key.not_before <= made <= key.not_after:
        yield f"key {bundle.key_id[:16]} was not valid at {made:%Y-%m-%dT%H:%M:%SZ}"
    if key.revoked and (bundle.trusted_time is None or made >= key.revoked):
        why = (
            "and no authority attests that it signed before that" if bundle.trusted_time is None else "before it signed"
        )
        yield f"key {bundle.key_id[:16]} was revoked at {key.revoked:%Y-%m-%dT%H:%M:%SZ}, {why}"


def _control_problems(policy: Policy, report: Mapping[str, Any]) -> Iterator[str]:
    """Whoever can make a control not applicable would be rid of it, so the policy says which may be. What another
    target's bundle proves is proven."""
    by_id = {control["id"]: control for control in report["controls"]}
    elsewhere = {there["control"] for there in report.get("proven_elsewhere", ()) if not there["problem"]}
    for pattern in policy.controls:
        found = [control for name, control in by_id.items() if fnmatchcase(name, pattern)]
        if not found:
            yield f"no control {pattern} was run"
        for control in found:
            name, outcome = control["id"], control["outcome"]
            waived = bool(control["waiver"]) and outcome == "failed"
            if outcome == "not_applicable" and (name in elsewhere or _matches(name, policy.not_applicable)):
                continue
            if outcome != "passed" and not (waived and policy.waivers):
                yield f"{name} is {'waived' if waived else outcome}"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
