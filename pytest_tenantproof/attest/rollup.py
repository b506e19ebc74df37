"""One statement over the bundles of many targets: which were run together, and whether all of them are proven."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pytest_tenantproof.attest import dsse, keys, sign
from pytest_tenantproof.attest.bundle import BUNDLE_NAME, next_run_id
from pytest_tenantproof.attest.statement import PREDICATE, STATEMENT, result_of
from pytest_tenantproof.attest.strictjson import canonical, load
from pytest_tenantproof.attest.verify import Verified, subjects_of, verify_bundle
from pytest_tenantproof.errors import EvidenceError, VerificationError

__all__ = ["Member", "verify_rollup", "write_rollup"]

_FOLDER = "fleet"
_SUFFIX = ".intoto.jsonl"
_WORDS = ("FAILED", "WARNED", "PASSED")


@dataclass(frozen=True, slots=True)
class Member:
    """One target's part: its bundle, or None where its run left none."""

    target: str
    bundle: Path | None

    @property
    def result(self) -> str:
        """As its bundle's statement says it; FAILED without one."""
        return "FAILED" if self.bundle is None else result_of(json.loads((self.bundle / "report.json").read_bytes()))


def write_rollup(root: Path, members: Sequence[Member], signer: sign.Signer, now: datetime) -> Path:
    """Writes `root/fleet/<run id>.intoto.jsonl` and returns its path. Raises EvidenceError."""
    tests = _tests((m.target, m.result) for m in members)
    subjects = [
        {"name": f"{m.target}/{m.bundle.name}", "digest": {"sha256": _digest(m.bundle)}}
        for m in sorted(members, key=lambda m: m.target)
        if m.bundle is not None
    ]
    predicate = {"result": _whole(tests), **tests, "configuration": []}
    body = canonical({"_type": STATEMENT, "predicateType": PREDICATE, "subject": subjects, "predicate": predicate})
    folder = root / _FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{next_run_id(folder, now)}{_SUFFIX}"
        if signer.ephemeral:
            _own_key_file(path).write_text(keys.public_pem(signer.public))
        part = path.with_suffix(".part")
        part.write_bytes(dsse.envelope(body, signer))
        part.replace(path)
    except OSError as error:
        raise EvidenceError(
            f"the roll-up could not be written: {error.strerror}.", remedy="check free space and permissions."
        ) from error
    return path


def _tests(results: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The targets by result. One that is proven but for what was waived is no target that passed."""
    found = sorted(results)
    return {f"{word.lower()}Tests": [target for target, result in found if result == word] for word in _WORDS}


def _whole(tests: Mapping[str, Sequence[str]]) -> str:
    """The worst of them; over no target at all FAILED."""
    return next((word for word in _WORDS if tests[f"{word.lower()}Tests"]), "FAILED")


def _own_key_file(path: Path) -> Path:
    """Where a roll-up's ephemeral key is, beside it."""
    return path.with_name(path.name.removesuffix(_SUFFIX) + ".pub")


def _digest(bundle: Path) -> str:
    return hashlib.sha256((bundle / "report.json").read_bytes()).hexdigest()


def verify_rollup(
    path: Path, trusted: Sequence[bytes], *, allow_ephemeral: bool = False
) -> tuple[Mapping[str, object], tuple[Verified, ...]]:
    """Verifies a roll-up and every bundle that it names, beside its folder. Returns its predicate and the bundles.

    With `allow_ephemeral` and no trusted key, the key beside it counts: that shows integrity only.
    Raises VerificationError; a bundle that is not the one named is `subject-mismatch`.
    """
    own = _own_key_file(path)
    known = [keys.read_public(own)] if allow_ephemeral and not trusted and own.is_file() else trusted
    opened = dsse.open_envelope(_read(path), {sign.key_id(key): key for key in known})
    statement = load(opened.payload, "the roll-up")
    predicate, named = statement.get("predicate"), subjects_of(statement.get("subject"))
    if (statement.get("_type"), statement.get("predicateType")) != (STATEMENT, PREDICATE) or not named:
        raise VerificationError("statement-malformed", f"{path} is no roll-up over any bundle.")
    if not isinstance(predicate, dict):
        raise VerificationError("statement-malformed", f"{path} has no predicate.")
    root = path.resolve().parents[1]
    found = tuple(_member(root, name, digest, trusted, allow_ephemeral) for name, digest in named)
    if problem := _unlike(predicate, found):
        raise VerificationError("report-inconsistent", f"{path} does not say what its bundles say: {problem}.")
    return predicate, found


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise VerificationError("not-a-bundle", f"{path} is no file.", remedy="name a roll-up.")
    return path.read_bytes()


def _member(root: Path, name: str, digest: str, trusted: Sequence[bytes], allow_ephemeral: bool) -> Verified:
    target, _, run_id = name.partition("/")
    if Path(target).name != target or not BUNDLE_NAME.fullmatch(run_id):
        raise VerificationError("subject-name", f"subject {name!r} is no bundle's name.")
    verified = verify_bundle(root / target / run_id, trusted, allow_ephemeral=allow_ephemeral)
    if (verified.target, verified.run_id) != (target, run_id):
        raise VerificationError("subject-mismatch", f"{name} is run {verified.run_id} of {verified.target}.")
    if verified.report_sha256 != digest:
        raise VerificationError("subject-mismatch", f"{name} is not the bundle that was rolled up.")
    return verified


def _unlike(predicate: Mapping[str, object], found: Sequence[Verified]) -> str:
    """How a roll-up's words are not those of its bundles. Targets without a bundle are failed ones too."""
    failed, due = predicate.get("failedTests"), _tests((v.target, result_of(v.report)) for v in found)
    if len({v.target for v in found}) != len(found):
        return "a target has two bundles"
    if not isinstance(failed, list) or not all(isinstance(name, str) for name in failed):
        return "it has no list of targets that failed"
    proven = [*due["passedTests"], *due["warnedTests"]]
    if any(predicate.get(name) != due[name] for name in ("passedTests", "warnedTests")):
        return "other targets are proven"
    if not set(due["failedTests"]) <= set(failed) or set(proven) & set(failed):
        return "other targets failed"
    if predicate.get("result") != _whole({**due, "failedTests": failed}):
        return "another result follows"
    return ""
