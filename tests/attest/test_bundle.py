"""Bundles are whole or absent, chained, and verify only as they were written."""

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pytest_tenantproof.attest import bundle, dsse, keys
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.strictjson import canonical
from pytest_tenantproof.attest.verify import verify_bundle, verify_chain
from pytest_tenantproof.errors import SigningKeyError, TenantproofError, VerificationError
from tests.attest.conftest import WriteBundle
from tests.attest.support import reason_of


def test_a_written_bundle_verifies(write: WriteBundle, signer: Signer) -> None:
    path = write()
    found = verify_bundle(path, [signer.public])
    assert (found.target, found.verdict, found.ephemeral) == ("prod", "failed", False)
    assert sorted(p.name for p in path.iterdir()) == [
        "junit.xml",
        "report.html",
        "report.json",
        "statement.intoto.jsonl",
    ]


def test_any_changed_byte_is_noticed(write: WriteBundle, signer: Signer) -> None:
    path = write()
    generator = random.Random(20261123)
    told: dict[str, Counter[str]] = {}
    for file in sorted(path.iterdir()):
        data, told[file.name] = file.read_bytes(), Counter()
        for _ in range(300):
            at = generator.randrange(len(data))
            changed = bytes([data[at] ^ (1 << generator.randrange(8))])
            file.write_bytes(data[:at] + changed + data[at + 1 :])
            told[file.name][reason_of(lambda: verify_bundle(path, [signer.public]))] += 1
        file.write_bytes(data)
    verify_bundle(path, [signer.public])
    envelope = told.pop(bundle.STATEMENT_FILE)
    assert told == {name: {"subject-mismatch": 300} for name in ("junit.xml", "report.html", "report.json")}
    assert set(envelope) == {"envelope-malformed", "json-malformed", "signature-invalid", "key-unknown", "payload-type"}


def test_a_signature_has_one_spelling(write: WriteBundle, signer: Signer) -> None:
    """64 bytes leave four bits of the last base64 character unused; they are signed by nobody, so they must be zero."""
    path = write() / "statement.intoto.jsonl"
    data = path.read_bytes()
    [end] = [at for at in range(len(data)) if data[at:].startswith(b'=="')][-1:]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(data[end - 1]) ^ 1]
    path.write_bytes(data[: end - 1] + bytes([other]) + data[end:])
    with pytest.raises(VerificationError) as caught:
        verify_bundle(path.parent, [signer.public])
    assert caught.value.reason == "envelope-malformed"


@pytest.mark.parametrize(
    ("name", "cut", "gone"),
    [
        ("report.json", "subject-mismatch", "subject-missing"),
        ("report.html", "subject-mismatch", "subject-missing"),
        ("junit.xml", "subject-mismatch", "subject-missing"),
        ("statement.intoto.jsonl", "envelope-malformed", "not-a-bundle"),
    ],
)
def test_a_missing_or_cut_file_is_noticed(write: WriteBundle, signer: Signer, name: str, cut: str, gone: str) -> None:
    path = write()
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[:-1])
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == cut
    (path / name).unlink()
    assert reason_of(lambda: verify_bundle(path, [signer.public])) == gone


def test_an_added_file_is_noticed(write: WriteBundle, signer: Signer) -> None:
    path = write()
    (path / "note.txt").write_text("trust me")
    with pytest.raises(VerificationError, match="not signed") as caught:
        verify_bundle(path, [signer.public])
    assert caught.value.reason == "subject-unexpected"


def test_a_link_is_no_file(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    path = write()
    moved = tmp_path / "elsewhere.html"
    (path / "report.html").rename(moved)
    (path / "report.html").symlink_to(moved)
    with pytest.raises(VerificationError) as caught:
        verify_bundle(path, [signer.public])
    assert caught.value.reason == "subject-unexpected"


def test_another_key_does_not_verify(write: WriteBundle) -> None:
    path = write()
    with pytest.raises(VerificationError) as caught:
        verify_bundle(path, [Signer(new_seed()).public])
    assert caught.value.reason == "key-unknown"


def test_an_ephemeral_key_is_accepted_only_when_asked(write: WriteBundle) -> None:
    path = write(Signer(new_seed(), ephemeral=True))
    assert reason_of(lambda: verify_bundle(path, [])) == "key-unknown"
    assert verify_bundle(path, [], allow_ephemeral=True).ephemeral


def _resign(path: Path, signer: Signer, change: dict[str, object], payload_type: str = dsse.IN_TOTO) -> None:
    """What someone with a valid key, or a confused tool, might write."""
    envelope = path / bundle.STATEMENT_FILE
    payload = dsse.open_envelope(envelope.read_bytes(), {signer.key_id: signer.public}).payload
    envelope.write_bytes(dsse.envelope(canonical(json.loads(payload) | change), signer, payload_type))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"subject": []}, "subject-unexpected"),
        ({"subject": [{"name": "../report.json", "digest": {"sha256": "0" * 64}}]}, "subject-name"),
        ({"subject": [{"name": "x", "digest": {"sha256": "0"}}] * 2}, "statement-malformed"),
        ({"predicateType": "https://example.org/other"}, "statement-malformed"),
        ({"predicate": {"result": "PASSED"}}, "report-inconsistent"),
    ],
)
def test_a_signed_lie_is_refused(write: WriteBundle, signer: Signer, change: dict[str, object], reason: str) -> None:
    path = write()
    _resign(path, signer, change)
    with pytest.raises(VerificationError) as caught:
        verify_bundle(path, [signer.public])
    assert caught.value.reason == reason


def test_another_payload_type_is_refused(write: WriteBundle, signer: Signer) -> None:
    path = write()
    _resign(path, signer, {}, "application/json")
    with pytest.raises(VerificationError) as caught:
        verify_bundle(path, [signer.public])
    assert caught.value.reason == "payload-type"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"payload":"","payload":""}', "json-duplicate-key"),
        (b"[" * 5000, "json-malformed"),
        (b'{"a":NaN}', "json-malformed"),
        (b"[]", "json-malformed"),
        (b"\xff", "json-malformed"),
        (b'{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[]}\n', "envelope-malformed"),
    ],
)
def test_a_hostile_envelope_is_refused(write: WriteBundle, signer: Signer, text: bytes, reason: str) -> None:
    path = write()
    (path / bundle.STATEMENT_FILE).write_bytes(text)
    with pytest.raises(VerificationError) as caught:
        verify_bundle(path, [signer.public])
    assert caught.value.reason == reason


def test_runs_are_chained_and_none_may_be_missing(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    paths = []
    for _ in range(4):
        paths.append(write())
        time.sleep(1.01)  # run ids carry whole seconds, and the order of names is the order of runs
    folder = tmp_path / "evidence" / "prod"
    assert len(verify_chain(folder, [signer.public])) == 4
    shutil.move(paths[1], tmp_path / "hidden")
    with pytest.raises(VerificationError) as caught:
        verify_chain(folder, [signer.public])
    assert caught.value.reason == "chain-broken"
    shutil.move(tmp_path / "hidden", paths[1])
    shutil.rmtree(paths[0])
    with pytest.raises(VerificationError) as caught:
        verify_chain(folder, [signer.public])
    assert caught.value.reason == "chain-broken"


_WRITER = """
import sys
from pathlib import Path
from tests.attest.conftest import make_run
from pytest_tenantproof.attest import bundle
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer
signer = Signer(bytes(32))
print("ready", flush=True)
while True:
    bundle.write_bundle(Path(sys.argv[1]), "prod", signer, lambda run_id, p: record(make_run(p, run_id)),
                        {"big.bin": lambda r: b"x" * 3_000_000})
"""


def test_a_killed_writer_leaves_whole_bundles_only(tmp_path: Path) -> None:
    generator = random.Random(7)
    seen = 0
    for attempt in range(6):
        root = tmp_path / str(attempt)
        with subprocess.Popen([sys.executable, "-c", _WRITER, root], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            while not bundle.bundles(root / "prod"):
                time.sleep(0.002)
            time.sleep(generator.uniform(0, 0.08))
            process.send_signal(signal.SIGKILL)
        for path in bundle.bundles(root / "prod"):
            verify_bundle(path, [Signer(bytes(32)).public])
            seen += 1
    assert seen >= 6
    # The next writer takes away what the last one left.
    code = _WRITER.replace("while True:", "for _ in range(1):")
    subprocess.run([sys.executable, "-c", code, root], check=True, capture_output=True)
    assert [path.name for path in (root / "prod").iterdir() if path.name.startswith(".part")] == []


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_full_disk_leaves_no_bundle(tmp_path: Path) -> None:
    code = _WRITER.replace("while True:", "for _ in range(1):")
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False, preexec_fn=_limited
    )
    assert done.returncode != 0
    assert "EvidenceError" in done.stderr
    assert [p.name for p in (tmp_path / "prod").iterdir()] == [".lock"]


def test_verification_needs_neither_pytest_nor_psycopg(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    path = write()
    (tmp_path / "k.pub").write_text(keys.public_pem(signer.public))
    code = (
        "import sys; from pytest_tenantproof.cli import main;"
        f"status = main(['verify', '--key', {str(tmp_path / 'k.pub')!r}, {str(path)!r}]);"
        "print([m for m in ('psycopg', 'pytest', 'pglast', 'boto3') if m in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_keys_are_private_and_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = keys.new_key(tmp_path)
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SigningKeyError, match="exists"):
        keys.new_key(tmp_path)
    monkeypatch.setenv(keys.KEY_FILE_VARIABLE, str(private))
    loaded = keys.load_signer()
    assert loaded is not None
    assert loaded.public == keys.read_public(public)
    private.chmod(0o644)
    with pytest.raises(SigningKeyError, match="read by others"):
        keys.load_signer()
    monkeypatch.setenv(keys.KEY_VARIABLE, "nonsense")
    with pytest.raises(SigningKeyError) as caught:
        keys.load_signer()
    assert "nonsense" not in str(caught.value)


def test_openssl_and_securesystemslib_agree(write: WriteBundle, signer: Signer, tmp_path: Path) -> None:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer._key import SSlibKey

    path = write()
    data = json.loads((path / bundle.STATEMENT_FILE).read_bytes())
    key = SSlibKey(data["signatures"][0]["keyid"], "ed25519", "ed25519", {"public": signer.public.hex()})
    Envelope.from_dict(json.loads(json.dumps(data))).verify([key], 1)


def test_the_folders_name_belongs_to_the_report(write: WriteBundle, signer: Signer) -> None:
    path = write()
    moved = path.rename(path.with_name("20200101T000000Z-00000000"))
    with pytest.raises(VerificationError) as caught:
        verify_bundle(moved, [signer.public])
    assert caught.value.reason == "report-inconsistent"


def test_errors_say_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(TenantproofError, match="Remedy"):
        verify_bundle(tmp_path / "nothing", [])
    assert not list(tmp_path.iterdir())
