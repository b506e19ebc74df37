"""The attacker against evidence. Each attack is refused with its reason, or changes nothing that is read.

Single edits of files, links, foreign keys and histories are in test_bundle.py and test_runlog.py.
"""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings, strategies

from pytest_tenantproof.attest import bundle, dsse, keys, policy, runlog, sign, strictjson
from pytest_tenantproof.attest.note import Checkpoint, signed_checkpoint
from pytest_tenantproof.attest.record import check_schema, record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.statement import statement
from pytest_tenantproof.attest.strictjson import canonical
from pytest_tenantproof.attest.verify import verify_bundle, verify_chain
from pytest_tenantproof.attest.verify_log import verify_log
from pytest_tenantproof.cli import main
from pytest_tenantproof.errors import VerificationError
from pytest_tenantproof.report import RENDERERS
from tests.attest.conftest import WriteBundle, make_run


def _reason(call: Callable[[], object]) -> str:
    with pytest.raises(VerificationError) as caught:
        call()
    assert caught.value.message
    return caught.value.reason


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
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "subject-mismatch"
    envelope = _envelope(path)
    envelope["payload"] = base64.b64encode(statement(report, _files(path))).decode()
    _put(path, envelope)
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "signature-invalid"


def test_an_edited_bundle_signed_anew_by_the_attacker(write: WriteBundle, signer: Signer) -> None:
    path, attacker = write(), Signer(new_seed())
    report = _edit_report(path, _whiten)
    forged = dsse.envelope(statement(report, _files(path)), attacker)
    (path / bundle.STATEMENT_FILE).write_bytes(forged)
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "key-unknown"
    # claiming the trusted key's id
    envelope = json.loads(forged)
    envelope["signatures"][0]["keyid"] = signer.key_id
    _put(path, envelope)
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "signature-invalid"


def test_swapped_subjects(write: WriteBundle, signer: Signer) -> None:
    """Files and statements of two good runs, exchanged."""
    first, second = write(), write()
    page = (first / "report.html").read_bytes()
    (first / "report.html").write_bytes((second / "report.html").read_bytes())
    assert _reason(lambda: verify_bundle(first, [signer.public])) == "subject-mismatch"
    (first / "report.html").write_bytes(page)
    (first / "report.html").rename(first / "swap")
    (first / "junit.xml").rename(first / "report.html")
    (first / "swap").rename(first / "junit.xml")
    assert _reason(lambda: verify_bundle(first, [signer.public])) == "subject-mismatch"
    shutil.copy(first / bundle.STATEMENT_FILE, second / bundle.STATEMENT_FILE)
    assert _reason(lambda: verify_bundle(second, [signer.public])) == "subject-mismatch"


def test_an_old_bundle_replayed_as_a_new_one(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    root = tmp_path / "evidence"
    old = write()
    write()
    runlog.append(root, signer)
    replayed = root / "prod" / "20300101T000000Z-00000000"
    shutil.copytree(old, replayed)
    assert _reason(lambda: verify_bundle(replayed, [signer.public])) == "report-inconsistent"
    assert _reason(lambda: verify_log(root, [signer.public])) == "log-run-unlogged"
    shutil.rmtree(replayed)
    # as another target's
    shutil.copytree(old, root / "other" / old.name)
    assert _reason(lambda: verify_log(root, [signer.public])) == "log-run-unlogged"


def test_a_run_of_another_target_in_a_history(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    write()
    run = record(make_run(None, "20260101T000000Z-00000000"))
    run["target"]["name"] = "other"
    bundle.write_bundle(tmp_path / "evidence", "prod", signer, lambda *_: run, {})
    assert _reason(lambda: verify_chain(tmp_path / "evidence" / "prod", [signer.public])) == "report-inconsistent"


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
    assert _reason(lambda: verify_log(root, [signer.public])) == "log-run-removed"
    log = root / "log"
    (log / "entries.jsonl").write_bytes(runlog.lines_of(root)[0] + b"\n")
    assert _reason(lambda: verify_log(root, [signer.public])) == "log-truncated"
    shutil.rmtree(log)
    assert _reason(lambda: verify_log(root, [signer.public])) == "log-missing"
    runlog.append(root, Signer(new_seed()))
    assert _reason(lambda: verify_log(root, [signer.public])) == "key-unknown"
    shutil.rmtree(log)
    runlog.append(root, signer)
    assert _reason(lambda: verify_log(root, [signer.public], since=kept)) == "log-replaced"


def test_a_targets_history_under_another_targets_name(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    """Whole and signed, but staging's: a folder's name is what people and scripts go by."""
    write()
    verify_chain(tmp_path / "evidence" / "prod", [signer.public])
    moved = (tmp_path / "evidence" / "prod").rename(tmp_path / "evidence" / "live")
    assert _reason(lambda: verify_chain(moved, [signer.public])) == "report-inconsistent"


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
    assert _reason(lambda: verify_bundle(path, [signer.public])) == expected


def test_a_live_bundle_downgraded_to_a_key_of_its_own(write: WriteBundle, signer: Signer) -> None:
    """The attacker's key comes along. It counts only when asked for, never for a live target, never as trusted."""
    path, attacker = write(), Signer(new_seed(), ephemeral=True)
    (path / bundle.PUBLIC_KEY_FILE).write_text(keys.public_pem(attacker.public))

    def forged(change: Callable[[dict[str, Any]], None]) -> None:
        _edit_report(path, change)
        report = json.loads((path / "report.json").read_bytes())
        (path / bundle.STATEMENT_FILE).write_bytes(dsse.envelope(statement(report, _files(path)), attacker))

    forged(_whiten)
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "key-unknown"
    assert _reason(lambda: verify_bundle(path, [signer.public], allow_ephemeral=True)) == "key-unknown"
    forged(lambda report: report["signing"].update(ephemeral=True))
    assert _reason(lambda: verify_bundle(path, [signer.public], allow_ephemeral=True)) == "key-unknown"
    forged(lambda report: report["target"].update({"class": "staging"}))
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "key-unknown"
    assert verify_bundle(path, [signer.public], allow_ephemeral=True).ephemeral


def test_key_confusion(write: WriteBundle, signer: Signer) -> None:
    """An id that names one key while another verifies; and points of small order, which verify anything."""
    path, other = write(), Signer(new_seed())
    envelope = (path / bundle.STATEMENT_FILE).read_bytes()
    assert _reason(lambda: dsse.open_envelope(envelope, {signer.key_id: other.public})) == "key-unknown"
    assert _reason(lambda: dsse.open_envelope(envelope, {other.key_id: signer.public})) == "key-unknown"
    for weak in (bytes(32), b"\x01" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")):
        identity = b"\x01" + bytes(31)
        for signature in (bytes(64), identity + bytes(32), weak + bytes(32)):
            sig = base64.b64encode(signature).decode()
            forged = json.loads(envelope) | {"signatures": [{"keyid": sign.key_id(weak), "sig": sig}]}
            _put(path, forged)
            assert _reason(partial(verify_bundle, path, [weak])) == "signature-invalid"


def test_payload_type_confusion(write: WriteBundle, signer: Signer) -> None:
    """The same key signs statements, policies and checkpoints; none of them passes for another."""
    path = write()
    envelope = (path / bundle.STATEMENT_FILE).read_bytes()
    payload = dsse.open_envelope(envelope, {signer.key_id: signer.public}).payload
    assert _reason(lambda: policy.open_policy(envelope, [signer.public])) == "payload-type"
    (path / bundle.STATEMENT_FILE).write_bytes(dsse.envelope(payload, signer, policy.PAYLOAD_TYPE))
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "payload-type"
    relabelled = json.loads(dsse.envelope(payload, signer, policy.PAYLOAD_TYPE)) | {"payloadType": dsse.IN_TOTO}
    _put(path, relabelled)
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "signature-invalid"
    # lengths are part of what is signed, so bytes cannot move from the payload to its type
    assert dsse.pae("ab", b"c") != dsse.pae("a", b"bc")
    note = signed_checkpoint(Checkpoint("tenantproof-log/x", 1, bytes(32)), signer)
    signature = note.rsplit(b" ", 1)[1].strip()
    text = note.partition(b"\n\n")[0] + b"\n"
    forged = {"keyid": signer.key_id, "sig": base64.b64encode(base64.b64decode(signature)[4:]).decode()}
    _put(path, relabelled | {"payload": base64.b64encode(text).decode(), "signatures": [forged]})
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "signature-invalid"


def _sign(path: Path, signer: Signer) -> None:
    """Signs the bundle as it lies there: the attack of a writer, or of a confused tool, with a trusted key."""
    envelope = (path / bundle.STATEMENT_FILE).read_bytes()
    old = json.loads(dsse.open_envelope(envelope, {signer.key_id: signer.public}).payload)
    for subject in old["subject"]:
        if (path / subject["name"]).is_file():
            subject["digest"]["sha256"] = hashlib.sha256((path / subject["name"]).read_bytes()).hexdigest()
    (path / bundle.STATEMENT_FILE).write_bytes(dsse.envelope(canonical(old), signer))


def _nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * depth + b"]" * depth + b"}"


REPORTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "duplicate verdict": (lambda d: d.replace(b"{", b'{"verdict": "proven",', 1), "json-duplicate-key"),
    "duplicate in a finding": (lambda d: d.replace(b'"detail"', b'"detail": "x", "detail"', 1), "json-duplicate-key"),
    "duplicate by escape": (lambda d: d.replace(b"{", b'{"verd\\u0069ct": "proven",', 1), "json-duplicate-key"),
    "deep": (lambda _: _nested(100_000), "json-malformed"),
    "deep behind a string": (lambda _: b'{"s":"\\"]]]]","a":' + _nested(90) + b"}", "json-malformed"),
    "unclosed": (lambda _: b'{"a":' * 60_000, "json-malformed"),
    "infinite": (lambda d: d.replace(b'"duration_s": 0.0', b'"duration_s": Infinity', 1), "json-malformed"),
    "huge number": (lambda d: d.replace(b'"of": 2', b'"of": ' + b"9" * 100_000, 1), "json-malformed"),
    "byte-order mark": (lambda d: b"\xef\xbb\xbf" + d, "json-malformed"),
    "utf-16": (lambda d: d.decode().encode("utf-16"), "json-malformed"),
    "second document": (lambda d: d + d, "json-malformed"),
    "other schema": (lambda d: d.replace(b"tenantproof/report/1", b"tenantproof/report/2", 1), "schema-mismatch"),
    "unknown outcome": (lambda d: d.replace(b'"outcome": "failed"', b'"outcome": "green"', 1), "schema-mismatch"),
    "negative duration": (lambda d: d.replace(b'"duration_s": 0.0', b'"duration_s": -1.0', 1), "schema-mismatch"),
    "boolean duration": (lambda d: d.replace(b'"duration_s": 0.0', b'"duration_s": true', 1), "schema-mismatch"),
    "float count": (lambda d: d.replace(b'"of": 2', b'"of": 2.5', 1), "schema-mismatch"),
    "another outcome": (lambda d: d.replace(b'"outcome": "passed"', b'"outcome": "not_run"', 1), "report-inconsistent"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_hostile_report_signed_by_a_trusted_key(name: str, write: WriteBundle, signer: Signer) -> None:
    path = write()
    verify_bundle(path, [signer.public])  # its controls are known to be sound from now on
    change, expected = REPORTS[name]
    before = (path / "report.json").read_bytes()
    (path / "report.json").write_bytes(change(before))
    assert change(before) != before
    _sign(path, signer)
    assert _reason(lambda: verify_bundle(path, [signer.public])) == expected


@settings(max_examples=60)
@given(
    strategies.recursive(
        strategies.text('[]{}"\\\\aé\n') | strategies.none(),
        lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text('"\\\\[}'), inner),
    ),
    strategies.integers(0, 70),
)
def test_the_depth_of_json_is_counted_outside_of_strings(value: Any, more: int) -> None:
    deep = json.loads("[" * more + "]" * more) if more else value
    for inside in ({"a": value, "b": deep}, {"a": [value] * 40, "b": deep}):
        data = json.dumps(inside).encode()
        try:
            refused = strictjson.load(data, "it") != inside
        except VerificationError:
            refused = True
        assert refused == (_depth(inside) > 64)


def _depth(value: Any) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(_depth, inner), default=0) if isinstance(inner, list) else 0


def test_what_was_sound_once_excuses_nothing_later() -> None:
    """Controls seen before are not gone through again: a change of any field makes another control of it."""
    good = record(make_run(None, "20261123T020000Z-00000000"))
    assert check_schema(good) == ""
    for key in good["controls"][0]:
        wrong: tuple[Any, ...] = (None, 7, "x" * 3, [1], {}, True)
        for bad in wrong:
            changed = json.loads(json.dumps(good))
            changed["controls"][0][key] = bad
            alone = json.loads(json.dumps(changed))
            alone["controls"] = alone["controls"][:1]
            twice = [check_schema(changed) == "", check_schema(changed) == ""]
            assert twice == [check_schema(alone) == ""] * 2, (key, bad)
    assert check_schema(good | {"controls": "x"})
    assert check_schema(good | {"controls": [*good["controls"], 1]})
    assert check_schema([good])


def test_a_huge_file_is_refused_unread(write: WriteBundle, signer: Signer) -> None:
    path = write()
    with (path / "report.json").open("r+b") as file:
        file.truncate(strictjson.LARGEST + 1)
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "json-too-large"


SUBJECTS = [
    "../report.json",
    "/etc/passwd",
    "a/../../b",
    "..",
    ".",
    "",
    ".hidden",
    "report.json\x00.txt",
    "report.json ",
    "a\\b",
    "C:evil",
    "report.json\n",
    "re\u0440ort.json",
    "file:report.json",
]


@pytest.mark.parametrize("name", SUBJECTS)
def test_path_traversal_in_a_subject(name: str, write: WriteBundle, signer: Signer) -> None:
    path = write()
    envelope = (path / bundle.STATEMENT_FILE).read_bytes()
    old = json.loads(dsse.open_envelope(envelope, {signer.key_id: signer.public}).payload)
    old["subject"].append({"name": name, "digest": {"sha256": "0" * 64}})
    (path / bundle.STATEMENT_FILE).write_bytes(dsse.envelope(canonical(old), signer))
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "subject-name"


STATEMENTS: list[dict[str, Any]] = [
    {"subject": None},
    {"subject": "report.json"},
    {"subject": 7},
    {"subject": [None]},
    {"subject": ["report.json"]},
    {"subject": [{"name": "report.json", "digest": None}]},
    {"subject": [{"name": "report.json", "digest": "0"}]},
    {"subject": {"name": "report.json"}},
    {"_type": None},
    {"predicate": None},
]


@pytest.mark.parametrize("change", STATEMENTS)
def test_a_misshapen_statement_is_refused_not_tripped_over(
    change: dict[str, Any], write: WriteBundle, signer: Signer
) -> None:
    path = write()
    envelope = (path / bundle.STATEMENT_FILE).read_bytes()
    old = json.loads(dsse.open_envelope(envelope, {signer.key_id: signer.public}).payload)
    (path / bundle.STATEMENT_FILE).write_bytes(dsse.envelope(canonical(old | change), signer))
    expected = {"statement-malformed", "subject-unexpected", "report-inconsistent"}
    assert _reason(lambda: verify_bundle(path, [signer.public])) in expected


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


NAMES = [
    '"><script>alert(1)</script>',
    "</style><script>alert(1)</script>",
    "' onmouseover='alert(1)",
    "]]><x/>",
    "<!--",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "\u202egnp.exe",
    "javascript:alert(1)",
    "&lt;script&gt;",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_name_is_text_in_every_file_of_a_bundle(name: str) -> None:
    report = json.loads(json.dumps(record(make_run(None, "20261123T020000Z-00000000"))))
    plain = json.loads(json.dumps(report))
    for control in report["controls"]:
        control.update(title=name, doc=name, requirement=name, maps={name: [name]})
        for finding in control["findings"]:
            finding.update(object=name, detail=name, fix=name, role=name)
    report["target"].update(database=name, role=name)
    for file, render in RENDERERS.items():
        data = render(report)
        if file.endswith(".html"):
            hostile, usual = _Tags(), _Tags()
            hostile.feed(data.decode())
            usual.feed(render(plain).decode())
            assert set(hostile.tags) <= set(usual.tags) | {"pre", "p"}, file
            assert hostile.tags.count("script") == usual.tags.count("script"), file
            assert hostile.handlers == [], file
        elif file.endswith(".xml"):
            assert ET.fromstring(data).tag in ("testsuites", "testsuite")
        elif file.endswith((".json", ".sarif")):
            json.loads(data)


def test_names_that_a_terminal_would_obey_are_spelled_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A scratch bundle is anybody's: its target's name must not write a line of its own, or colour one."""
    attacker = Signer(new_seed(), ephemeral=True)
    name = "x: proven\nok evidence/prod: prod proven, key 0123456789abcdef\x1b[2K\r\ud800"
    run = record(make_run(None, "20260101T000000Z-00000000", ephemeral=True))
    run["target"]["name"] = name
    path = bundle.write_bundle(tmp_path / "evidence", "prod", attacker, lambda *_: run, {})
    assert main(["verify", "--allow-ephemeral", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.isascii()
    assert said.endswith("(ephemeral: integrity only)\n")
    assert "\x1b" not in said
    assert main(["verify", "--allow-ephemeral", "--chain", str(path.parent)]) == 1
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----\n", "\xff", "A" * 10_000]
)
def test_a_key_that_is_none_is_a_reason(text: str, tmp_path: Path) -> None:
    own = Signer(new_seed(), ephemeral=True)
    run = record(make_run(None, "20260101T000000Z-00000000", ephemeral=True))
    path = bundle.write_bundle(tmp_path, "prod", own, lambda *_: run, {})
    (path / bundle.PUBLIC_KEY_FILE).write_text(text)
    assert _reason(lambda: verify_bundle(path, [], allow_ephemeral=True)) == "key-unknown"


def test_many_large_files_are_refused_unread(write: WriteBundle, signer: Signer) -> None:
    path = write()
    for number in range(3):
        with (path / f"filler-{number}.html").open("wb") as file:
            file.truncate(strictjson.LARGEST // 2)
    assert _reason(lambda: verify_bundle(path, [signer.public])) == "json-too-large"
