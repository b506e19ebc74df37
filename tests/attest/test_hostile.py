"""Content made to break its reader: JSON, sizes, paths, names, keys. Each is refused with its reason, or is text."""

import hashlib
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings, strategies

from pytest_tenantproof.attest import bundle, dsse, strictjson
from pytest_tenantproof.attest.record import check_schema, record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.strictjson import canonical
from pytest_tenantproof.attest.verify import verify_bundle
from pytest_tenantproof.cli import main
from pytest_tenantproof.errors import VerificationError
from pytest_tenantproof.report import RENDERERS
from tests.attest.conftest import WriteBundle, make_run
from tests.attest.support import reason_of


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
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == expected


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
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "json-too-large"


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
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "subject-name"


STATEMENTS: list[tuple[dict[str, Any], str]] = [
    ({"subject": None}, "subject-unexpected"),
    ({"subject": "report.json"}, "statement-malformed"),
    ({"subject": 7}, "statement-malformed"),
    ({"subject": [None]}, "statement-malformed"),
    ({"subject": ["report.json"]}, "statement-malformed"),
    ({"subject": [{"name": "report.json", "digest": None}]}, "statement-malformed"),
    ({"subject": [{"name": "report.json", "digest": "0"}]}, "statement-malformed"),
    ({"subject": {"name": "report.json"}}, "statement-malformed"),
    ({"_type": None}, "statement-malformed"),
    ({"predicate": None}, "report-inconsistent"),
]


@pytest.mark.parametrize(("change", "expected"), STATEMENTS)
def test_a_misshapen_statement_is_refused_not_tripped_over(
    change: dict[str, Any], expected: str, write: WriteBundle, signer: Signer
) -> None:
    path = write()
    envelope = (path / bundle.STATEMENT_FILE).read_bytes()
    old = json.loads(dsse.open_envelope(envelope, {signer.key_id: signer.public}).payload)
    (path / bundle.STATEMENT_FILE).write_bytes(dsse.envelope(canonical(old | change), signer))
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == expected


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
def test_a_key_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    own = Signer(new_seed(), ephemeral=True)
    run = record(make_run(None, "20260101T000000Z-00000000", ephemeral=True))
    path = bundle.write_bundle(tmp_path, "prod", own, lambda *_: run, {})
    (path / bundle.PUBLIC_KEY_FILE).write_text(text)
    assert reason_of(lambda: verify_bundle(path, [], allow_ephemeral=True)) == "key-unknown"


def test_many_large_files_are_refused_unread(write: WriteBundle, signer: Signer) -> None:
    path = write()
    for number in range(3):
        with (path / f"filler-{number}.html").open("wb") as file:
            file.truncate(strictjson.LARGEST // 2)
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == "json-too-large"
