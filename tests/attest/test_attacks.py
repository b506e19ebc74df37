"""The attacker against evidence. Each attack is refused with its reason, or changes nothing that is read.

Single edits of files, links, foreign keys and histories are in test_bundle.py and test_runlog.py; content that is made
to break its reader is in test_hostile.py.
"""

import base64
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.attest import bundle, dsse, keys, policy, runlog, sign
from pytest_tenantproof.attest.note import Checkpoint, signed_checkpoint
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.statement import statement
from pytest_tenantproof.attest.strictjson import canonical
from pytest_tenantproof.attest.verify import verify_bundle, verify_chain
from pytest_tenantproof.attest.verify_log import verify_log
from tests.attest.conftest import WriteBundle, make_run
from tests.attest.support import reason_of


def _envelope(path: Path) -> Any:
    return json.loads((path / bundle.STATEMENT_FILE).read_bytes())


def _put(path: Path, envelope: Any) -> None:
    (path / bundle.STATEMENT_FILE).write_bytes(canonical(envelope) + b"\n")


def _edit_report(path: Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """report.json with a change, and every digest in the statement adapted to it: all but the signature."""
    report: dict[str, Any] = json.loads((path / "report.json").read_bytes())
    change(report)
    (path / "report.json").write_bytes(json.dumps(report, sort_keys=True, indent=1).encode() + b"\n")
    return report


def _files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith("statement.")}


def _whiten(report: dict[str, Any]) -> None:
    report["verdict"] = "proven"
    for control in report["controls"]:
        control.update(outcome="passed", findings=[], reason="")


def test_edited_findings_with_a_statement_made_to_fit(write: WriteBundle, signer: Signer) -> None:
    path = write()
    report = _edit_report(path, _whiten)
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "subject-mismatch"
    envelope = _envelope(path)
    envelope["payload"] = base64.b64encode(statement(report, _files(path))).decode()
    _put(path, envelope)
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "signature-invalid"


def test_an_edited_bundle_signed_anew_by_the_attacker(write: WriteBundle, signer: Signer) -> None:
    path, attacker = write(), Signer(new_seed())
    report = _edit_report(path, _whiten)
    forged = dsse.envelope(statement(report, _files(path)), attacker)
    (path / bundle.STATEMENT_FILE).write_bytes(forged)
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "key-unknown"
    # claiming the trusted key's id
    envelope = json.loads(forged)
    envelope["signatures"][0]["keyid"] = signer.key_id
    _put(path, envelope)
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "signature-invalid"


def test_swapped_subjects(write: WriteBundle, signer: Signer) -> None:
    """Files and statements of two good runs, exchanged."""
    first, second = write(), write()
    page = (first / "report.html").read_bytes()
    (first / "report.html").write_bytes((second / "report.html").read_bytes())
    assert reason_of(lambda: verify_bundle(first, [signer.public])) == "subject-mismatch"
    (first / "report.html").write_bytes(page)
    (first / "report.html").rename(first / "swap")
    (first / "junit.xml").rename(first / "report.html")
    (first / "swap").rename(first / "junit.xml")
    assert reason_of(lambda: verify_bundle(first, [signer.public])) == "subject-mismatch"
    shutil.copy(first / bundle.STATEMENT_FILE, second / bundle.STATEMENT_FILE)
    assert reason_of(lambda: verify_bundle(second, [signer.public])) == "subject-mismatch"


def test_an_old_bundle_replayed_as_a_new_one(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    root = tmp_path / "evidence"
    old = write()
    write()
    runlog.append(root, signer)
    replayed = root / "prod" / "20300101T000000Z-00000000"
    shutil.copytree(old, replayed)
    assert reason_of(lambda: verify_bundle(replayed, [signer.public])) == "report-inconsistent"
    assert reason_of(lambda: verify_log(root, [signer.public])) == "log-run-unlogged"
    shutil.rmtree(replayed)
    # as another target's
    shutil.copytree(old, root / "other" / old.name)
    assert reason_of(lambda: verify_log(root, [signer.public])) == "log-run-unlogged"


def test_a_run_of_another_target_in_a_history(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    write()
    run = record(make_run(None, "20260101T000000Z-00000000"))
    run["target"]["name"] = "other"
    bundle.write_bundle(tmp_path / "evidence", "prod", signer, lambda *_: run, {})
    assert reason_of(lambda: verify_chain(tmp_path / "evidence" / "prod", [signer.public])) == "report-inconsistent"


def test_a_removed_run_with_the_log_made_to_fit(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    """The last run is the one that its chain does not miss. Without the key, the log does; a kept checkpoint
    shows it even against whoever holds the key."""
    root = tmp_path / "evidence"
    write()
    runlog.append(root, signer)
    last = write()
    runlog.append(root, signer)
    kept = runlog.checkpoint_file(root).read_bytes()
    shutil.rmtree(last)
    verify_chain(root / "prod", [signer.public])
    assert reason_of(lambda: verify_log(root, [signer.public])) == "log-run-removed"
    log = root / "log"
    (log / "entries.jsonl").write_bytes(runlog.lines_of(root)[0] + b"\n")
    assert reason_of(lambda: verify_log(root, [signer.public])) == "log-truncated"
    shutil.rmtree(log)
    assert reason_of(lambda: verify_log(root, [signer.public])) == "log-missing"
    runlog.append(root, Signer(new_seed()))
    assert reason_of(lambda: verify_log(root, [signer.public])) == "key-unknown"
    shutil.rmtree(log)
    runlog.append(root, signer)
    assert reason_of(lambda: verify_log(root, [signer.public], since=kept)) == "log-replaced"


def test_a_targets_history_under_another_targets_name(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    """Whole and signed, but staging's: a folder's name is what people and scripts go by."""
    write()
    verify_chain(tmp_path / "evidence" / "prod", [signer.public])
    moved = (tmp_path / "evidence" / "prod").rename(tmp_path / "evidence" / "live")
    assert reason_of(lambda: verify_chain(moved, [signer.public])) == "report-inconsistent"


SIGNATURES: dict[str, tuple[Callable[[Any], None], str]] = {
    "none": (lambda e: e.update(signatures=[]), "envelope-malformed"),
    "null": (lambda e: e.update(signatures=None), "envelope-malformed"),
    "not a list": (lambda e: e.update(signatures={"0": 1}), "envelope-malformed"),
    "empty": (lambda e: e["signatures"][0].update(sig=""), "signature-invalid"),
    "zero": (lambda e: e["signatures"][0].update(sig=base64.b64encode(bytes(64)).decode()), "signature-invalid"),
    "cut": (lambda e: e["signatures"][0].update(sig=e["signatures"][0]["sig"][:40]), "signature-invalid"),
    "number": (lambda e: e["signatures"][0].update(sig=0), "envelope-malformed"),
    "no key id": (lambda e: e["signatures"][0].update(keyid=""), "key-unknown"),
    "key id list": (lambda e: e["signatures"][0].update(keyid=["a"]), "key-unknown"),
    "algorithm": (lambda e: e["signatures"][0].update(alg="none"), "envelope-malformed"),
    "second": (lambda e: e["signatures"].append({"keyid": "x", "sig": ""}), "envelope-malformed"),
    "twice": (lambda e: e["signatures"].append(e["signatures"][0]), "envelope-malformed"),
    "payload url-safe": (lambda e: e.update(payload=e["payload"] + "-_"), "envelope-malformed"),
    "payload null": (lambda e: e.update(payload=None), "envelope-malformed"),
    "type": (lambda e: e.update(payloadType="application/json"), "payload-type"),
    "type null": (lambda e: e.update(payloadType=None), "payload-type"),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_downgraded_signature(name: str, write: WriteBundle, signer: Signer) -> None:
    path = write()
    change, expected = SIGNATURES[name]
    envelope = _envelope(path)
    change(envelope)
    _put(path, envelope)
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == expected


def test_a_live_bundle_downgraded_to_a_key_of_its_own(write: WriteBundle, signer: Signer) -> None:
    """The attacker's key comes along. It counts only when asked for, never for a live target, never as trusted."""
    path, attacker = write(), Signer(new_seed(), ephemeral=True)
    (path / bundle.PUBLIC_KEY_FILE).write_text(keys.public_pem(attacker.public))

    def forged(change: Callable[[dict[str, Any]], None]) -> None:
        _edit_report(path, change)
        report = json.loads((path / "report.json").read_bytes())
        (path / bundle.STATEMENT_FILE).write_bytes(dsse.envelope(statement(report, _files(path)), attacker))

    forged(_whiten)
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "key-unknown"
    assert reason_of(lambda: verify_bundle(path, [signer.public], allow_ephemeral=True)) == "key-unknown"
    forged(lambda report: report["signing"].update(ephemeral=True))
    assert reason_of(lambda: verify_bundle(path, [signer.public], allow_ephemeral=True)) == "key-unknown"
    forged(lambda report: report["target"].update({"class": "staging"}))
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "key-unknown"
    assert verify_bundle(path, [signer.public], allow_ephemeral=True).ephemeral


def test_key_confusion(write: WriteBundle, signer: Signer) -> None:
    """An id that names one key while another verifies; and points of small order, which verify anything."""
    path, other = write(), Signer(new_seed())
    envelope = (path / bundle.STATEMENT_FILE).read_bytes()
    assert reason_of(lambda: dsse.open_envelope(envelope, {signer.key_id: other.public})) == "key-unknown"
    assert reason_of(lambda: dsse.open_envelope(envelope, {other.key_id: signer.public})) == "key-unknown"
    for weak in (bytes(32), b"\x01" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")):
        identity = b"\x01" + bytes(31)
        for signature in (bytes(64), identity + bytes(32), weak + bytes(32)):
            sig = base64.b64encode(signature).decode()
            forged = json.loads(envelope) | {"signatures": [{"keyid": sign.key_id(weak), "sig": sig}]}
            _put(path, forged)
            assert reason_of(partial(verify_bundle, path, [weak])) == "signature-invalid"


def test_payload_type_confusion(write: WriteBundle, signer: Signer) -> None:
    """The same key signs statements, policies and checkpoints; none of them passes for another."""
    path = write()
    envelope = (path / bundle.STATEMENT_FILE).read_bytes()
    payload = dsse.open_envelope(envelope, {signer.key_id: signer.public}).payload
    assert reason_of(lambda: policy.open_policy(envelope, [signer.public])) == "payload-type"
    (path / bundle.STATEMENT_FILE).write_bytes(dsse.envelope(payload, signer, policy.PAYLOAD_TYPE))
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "payload-type"
    relabelled = json.loads(dsse.envelope(payload, signer, policy.PAYLOAD_TYPE)) | {"payloadType": dsse.IN_TOTO}
    _put(path, relabelled)
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "signature-invalid"
    # lengths are part of what is signed, so bytes cannot move from the payload to its type
    assert dsse.pae("ab", b"c") != dsse.pae("a", b"bc")
    note = signed_checkpoint(Checkpoint("tenantproof-log/x", 1, bytes(32)), signer)
    signature = note.rsplit(b" ", 1)[1].strip()
    text = note.partition(b"\n\n")[0] + b"\n"
    forged = {"keyid": signer.key_id, "sig": base64.b64encode(base64.b64decode(signature)[4:]).decode()}
    _put(path, relabelled | {"payload": base64.b64encode(text).decode(), "signatures": [forged]})
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "signature-invalid"
