"""Verifies bundles offline, with a public key and nothing else. Reason codes are stable:

json-too-large json-malformed json-duplicate-key envelope-malformed payload-type key-unknown
signature-invalid statement-malformed subject-missing subject-unexpected subject-mismatch subject-name
schema-mismatch report-inconsistent verdict-mismatch chain-broken chain-missing not-a-bundle
timestamp-missing timestamp-malformed timestamp-refused timestamp-mismatch timestamp-untrusted timestamp-apart
alerts-malformed alerts-mismatch
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest import dsse, keys, sign, statement
from pytest_tenantproof.attest.alerts import check_alerts
from pytest_tenantproof.attest.bundle import (
    ALERTS_FILE,
    BUNDLE_NAME,
    PUBLIC_KEY_FILE,
    STATEMENT_FILE,
    TIMESTAMP_FILE,
    bundles,
)
from pytest_tenantproof.attest.record import check_schema
from pytest_tenantproof.attest.strictjson import LARGEST, load
from pytest_tenantproof.attest.verdict import inconsistency, recomputed
from pytest_tenantproof.errors import SigningKeyError, VerificationError

__all__ = [
    "Link",
    "TrustedTime",
    "Verified",
    "check_history",
    "check_links",
    "signed_report",
    "subjects_of",
    "verify_bundle",
    "verify_chain",
]

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_STAMPED_WITHIN = timedelta(minutes=15)
_OUTSIDE = "tenantproof:"


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verified bundle says. `ephemeral`: signed by a key that came with it, so only its integrity is shown."""

    path: Path
    run_id: str
    target: str
    verdict: str
    key_id: str
    ephemeral: bool
    report: Mapping[str, Any]
    report_sha256: str
    trusted_time: datetime | None = None
    """When a timestamp authority saw the signature; None where no root was given to check it with."""
    untold: tuple[str, ...] = ()
    """Alerts of the run that were not delivered, with why."""


@dataclass(frozen=True, slots=True)
class TrustedTime:
    """PEM file of an authority's pinned roots, and whether a bundle without a timestamp is refused."""

    roots: Path
    required: bool = True


@dataclass(frozen=True, slots=True)
class Link:
    """One run of a target's history, and run_id and sha256 of the one that it names as the one before."""

    run_id: str
    report_sha256: str
    previous: Mapping[str, str] | None


def verify_bundle(
    path: Path, trusted: Sequence[bytes], *, allow_ephemeral: bool = False, time: TrustedTime | None = None
) -> Verified:
    """Checks signature, subjects, schema and name of one bundle. Raises VerificationError with a reason code.

    `trusted` are raw public keys.
    With `time`, the timestamp is checked too; without, its presence says nothing. With `allow_ephemeral`, a
    bundle that carries its own key is accepted.
    """
    files = _files(path)
    if STATEMENT_FILE not in files:
        raise VerificationError("not-a-bundle", f"{path} has no {STATEMENT_FILE}.", remedy="name a bundle's folder.")
    known = {sign.key_id(key): key for key in trusted}
    own = _own_key(files) if allow_ephemeral else {}
    opened = dsse.open_envelope(files[STATEMENT_FILE], own | known)
    _check_subjects(load(opened.payload, "the statement"), files)
    report = load(files["report.json"], "report.json")
    _check_report(report, path, opened.payload, files)
    if opened.key_id not in known and not (report["signing"]["ephemeral"] and report["target"]["class"] != "live"):
        raise VerificationError("key-unknown", "a bundle of this kind is never signed by a key of its own.")
    alerts = check_alerts(files, own | known, opened.key_id)
    digest = hashlib.sha256(files["report.json"]).hexdigest()
    return Verified(
        path,
        report["run_id"],
        report["target"]["name"],
        report["verdict"],
        opened.key_id,
        opened.key_id not in known,
        report,
        digest,
        _time(files, opened.signature, time, report["finished"]) if time else None,
        tuple(f"{alert['channel']}: {alert['problem']}" for alert in alerts if alert["problem"]),
    )


def signed_report(path: Path, trusted: Sequence[bytes], *, allow_ephemeral: bool = False) -> bytes:
    """report.json as a trusted key signed it: a thirtieth of the work of verify_bundle, and nothing else is checked.

    Raises VerificationError.
    """
    wanted = {STATEMENT_FILE, "report.json"} | ({PUBLIC_KEY_FILE} if allow_ephemeral else set())
    files = _files(path, wanted)
    if not {STATEMENT_FILE, "report.json"} <= set(files):
        raise VerificationError("not-a-bundle", f"{path} has no {STATEMENT_FILE} or no report.", remedy="restore it.")
    known = {sign.key_id(key): key for key in trusted}
    own = _own_key(files) if allow_ephemeral else {}
    opened = dsse.open_envelope(files[STATEMENT_FILE], own | known)
    named = subjects_of(load(opened.payload, "the statement").get("subject"))
    if ("report.json", hashlib.sha256(files["report.json"]).hexdigest()) not in named:
        raise VerificationError("subject-mismatch", "'report.json' was changed after signing.")
    return files["report.json"]


def _time(files: Mapping[str, bytes], signature: bytes, wanted: TrustedTime, finished: str) -> datetime | None:
    from pytest_tenantproof.attest.timestamp import read_roots, verify_token

    if TIMESTAMP_FILE not in files:
        if wanted.required:
            raise VerificationError("timestamp-missing", "the bundle has no trusted timestamp.")
        return None
    seen = verify_token(files[TIMESTAMP_FILE], signature, read_roots(wanted.roots))
    # A run asks as soon as it has signed. Whoever holds the key can date a report back, but not the authority.
    if abs(seen - datetime.fromisoformat(finished)) > _STAMPED_WITHIN:
        raise VerificationError("timestamp-apart", f"it says that it finished at {finished}, and was seen at {seen}.")
    return seen


def _files(path: Path, wanted: Collection[str] | None = None) -> dict[str, bytes]:
    """The files of a bundle by name; of a part of them, those that are there."""
    if not path.is_dir() or path.is_symlink():
        raise VerificationError("not-a-bundle", f"{path} is not a folder.", remedy="name a bundle's folder.")
    found: dict[str, bytes] = {}
    left = LARGEST
    for entry in path.iterdir():
        if wanted is not None and entry.name not in wanted:
            continue
        if entry.is_symlink() or not entry.is_file():
            raise VerificationError("subject-unexpected", f"{entry.name!r} is not a plain file.")
        if (left := left - entry.stat().st_size) < 0:
            raise VerificationError("json-too-large", f"the files of {path} are larger than {LARGEST} bytes.")
        found[entry.name] = entry.read_bytes()
    return found


def _own_key(files: Mapping[str, bytes]) -> dict[str, bytes]:
    if PUBLIC_KEY_FILE not in files:
        return {}
    try:
        public = keys.load_public(files[PUBLIC_KEY_FILE].decode("ascii", "replace"), PUBLIC_KEY_FILE)
    except SigningKeyError as error:
        raise VerificationError("key-unknown", error.message) from None
    return {sign.key_id(public): public}


def subjects_of(listed: Any) -> list[tuple[str, str]]:
    """Name and sha256 of each subject, whatever is in the statement's place for them."""
    try:
        found = [(subject["name"], subject["digest"]["sha256"]) for subject in listed or ()]
    except (TypeError, KeyError, IndexError):
        found = [(None, None)]
    if not all(isinstance(text, str) for pair in found for text in pair):
        raise VerificationError("statement-malformed", "a subject is not a name with a sha256 digest.")
    return found


def _check_subjects(parsed: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    if parsed.get("_type") != statement.STATEMENT or parsed.get("predicateType") != statement.PREDICATE:
        raise VerificationError("statement-malformed", "this is no test-result statement.")
    named: dict[str, str] = {}
    for name, digest in subjects_of(parsed.get("subject")):
        if name in named:
            raise VerificationError("statement-malformed", f"subject {name!r} occurs twice.")
        if not name.startswith(_OUTSIDE) and not _FILE_NAME.fullmatch(name):
            raise VerificationError("subject-name", f"subject {name!r} is not a plain file name.")
        named[name] = digest
    expected = {name: digest for name, digest in named.items() if not name.startswith(_OUTSIDE)}
    signed = set(files) - {STATEMENT_FILE, TIMESTAMP_FILE, ALERTS_FILE}
    for name in sorted(set(expected) - signed):
        raise VerificationError("subject-missing", f"{name!r} is signed but not in the bundle.")
    for name in sorted(signed - set(expected)):
        raise VerificationError("subject-unexpected", f"{name!r} is in the bundle but not signed.")
    for name, digest in expected.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise VerificationError("subject-mismatch", f"{name!r} was changed after signing.")
    if "report.json" not in expected:
        raise VerificationError("subject-missing", "report.json is not among the subjects.")


def _check_report(report: dict[str, Any], path: Path, payload: bytes, files: Mapping[str, bytes]) -> None:
    if problem := check_schema(report):
        raise VerificationError("schema-mismatch", f"report.json is not as its schema says: {problem}.")
    if BUNDLE_NAME.fullmatch(path.resolve().name) and report["run_id"] != path.resolve().name:
        raise VerificationError("report-inconsistent", "the folder's name is not the run id of its report.")
    if report.get("drill", {}).get("manifest_sha256", "") != report["digests"].get("backup", ""):
        raise VerificationError("report-inconsistent", "the drill is of another backup than the statement's.")
    _check_verdict(report)
    rest = {name: data for name, data in files.items() if not name.startswith("statement.")}
    if statement.statement(report, rest) != payload:
        raise VerificationError("report-inconsistent", "the statement does not follow from the report.")


def _check_verdict(report: Mapping[str, Any]) -> None:
    if problem := inconsistency(report):
        raise VerificationError("report-inconsistent", f"{problem}.")
    try:
        due = recomputed(report)
    except ValueError:
        raise VerificationError("report-inconsistent", "the report's times are none.") from None
    if report["verdict"] != due:
        raise VerificationError(
            "verdict-mismatch",
            f"the report says {report['verdict']}, and its results say {due}.",
            remedy="believe neither.",
        )


def verify_chain(
    folder: Path, trusted: Sequence[bytes], *, allow_ephemeral: bool = False, time: TrustedTime | None = None
) -> tuple[Verified, ...]:
    """Verifies every bundle of a target, and that each names the one before it. Raises VerificationError."""
    found = bundles(folder)
    if not found:
        raise VerificationError("chain-missing", f"{folder} holds no bundle.", remedy="name a target's folder.")
    verified = tuple(verify_bundle(path, trusted, allow_ephemeral=allow_ephemeral, time=time) for path in found)
    check_history(folder.resolve().name, verified)
    return verified


def check_history(target: str, runs: Sequence[Verified]) -> None:
    """That all are runs of this target, and follow each other. Raises VerificationError."""
    if others := sorted({run.target for run in runs} - {target}):
        raise VerificationError("report-inconsistent", f"the history of {target} holds a run of {others[0]!r}.")
    check_links([Link(run.run_id, run.report_sha256, run.report["previous"]) for run in runs])


def check_links(links: Sequence[Link]) -> None:
    """That each run follows another of them, one run at most follows each, and one is the first.

    Raises VerificationError (chain-broken).
    """
    run_ids = {link.report_sha256: link.run_id for link in links}
    followed: set[str] = set()
    for link in links:
        if link.previous is None:
            continue
        before, digest = link.previous["run_id"], link.previous["sha256"]
        if run_ids.get(digest) != before:
            raise VerificationError("chain-broken", f"{link.run_id} follows {before}, which is missing or was changed.")
        if before >= link.run_id:
            raise VerificationError("chain-broken", f"{link.run_id} says that it follows {before}, a later run.")
        if digest in followed:
            raise VerificationError("chain-broken", f"two runs follow {before}: the history forks.")
        followed.add(digest)
    starts = [link.run_id for link in links if link.previous is None]
    if len(starts) != 1:
        raise VerificationError("chain-broken", f"{len(starts)} runs claim to be the first: {', '.join(starts[:3])}.")
