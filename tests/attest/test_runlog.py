"""A history that was deleted, back-dated, edited or forked is named; a checkpoint kept from earlier proves it."""

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pytest_tenantproof.attest import bundle, dsse, keys, merkle, note, runlog, sign
from pytest_tenantproof.attest.note import Checkpoint
from pytest_tenantproof.attest.proof import prove, verify_proof
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.verify import verify_chain
from pytest_tenantproof.attest.verify_log import verify_log
from pytest_tenantproof.cli import main
from pytest_tenantproof.errors import EvidenceError, VerificationError
from pytest_tenantproof.report import render_html
from tests.attest.conftest import WriteBundle, make_run
from tests.attest.support import reason_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


@pytest.fixture
def history(write: WriteBundle, signer: Signer, root: Path) -> list[Path]:
    """Four logged runs; `kept` beside the folder is the checkpoint after the third."""
    paths = []
    for number in range(4):
        paths.append(write())
        runlog.append(root, signer)
        if number == 2:
            shutil.copy(runlog.checkpoint_file(root), root.parent / "kept")
    return paths


def reason(root: Path, signer: Signer, **more: object) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_log(root, [signer.public], **more)  # type: ignore[arg-type]
    return caught.value.reason


def rewrite(root: Path, signer: Signer, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """The attack of somebody who holds the signing key: another history, properly signed."""
    lines = change(runlog.lines_of(root))
    (runlog.log_folder(root) / "entries.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    origin = runlog.checkpoint_file(root).read_text().split("\n")[0]
    checkpoint = Checkpoint(origin, len(lines), merkle.root_hash(runlog.leaves_of(lines)))
    runlog.checkpoint_file(root).write_bytes(note.signed_checkpoint(checkpoint, signer))


def test_an_untouched_history_verifies(history: list[Path], root: Path, signer: Signer) -> None:
    current, found = verify_log(root, [signer.public], since=(root.parent / "kept").read_bytes())
    assert current.size == 4
    assert [v.run_id for v in found] == [path.name for path in history]


def test_a_removed_run_is_named(history: list[Path], root: Path, signer: Signer) -> None:
    shutil.rmtree(history[1])
    with pytest.raises(VerificationError, match=history[1].name) as caught:
        verify_log(root, [signer.public])
    assert caught.value.reason == "log-run-removed"


def test_a_run_removed_from_bundles_and_log_is_noticed(history: list[Path], root: Path, signer: Signer) -> None:
    shutil.rmtree(history[3])
    entries = runlog.log_folder(root) / "entries.jsonl"
    lines = entries.read_bytes().splitlines(keepends=True)
    entries.write_bytes(b"".join(lines[:3]))
    assert reason(root, signer) == "log-truncated"
    shutil.rmtree(history[2])
    rewrite(root, signer, lambda held: held[:2])
    verify_log(root, [signer.public])  # whoever holds the key can cut the end: only a kept checkpoint shows it
    assert reason(root, signer, since=(root.parent / "kept").read_bytes()) == "log-truncated"


def test_an_edited_entry_is_noticed(history: list[Path], root: Path, signer: Signer) -> None:
    entries = runlog.log_folder(root) / "entries.jsonl"
    entries.write_bytes(entries.read_bytes().replace(b'"failed"', b'"proven"', 1))
    assert reason(root, signer) == "log-changed"
    rewrite(root, signer, lambda held: held)
    assert reason(root, signer) == "log-run-replaced"
    assert reason(root, signer, since=(root.parent / "kept").read_bytes()) == "log-forked"


def test_a_forked_history_is_named(history: list[Path], write: WriteBundle, root: Path, signer: Signer) -> None:
    write()
    write()
    runlog.append(root, signer)
    kept = runlog.checkpoint_file(root).read_bytes()
    rewrite(root, signer, lambda held: [*held[:4], held[5], held[4]])
    assert reason(root, signer) == "log-reordered"
    assert reason(root, signer, since=kept) == "log-forked"


def test_a_backdated_run_is_named(history: list[Path], root: Path, signer: Signer) -> None:
    def early(run_id: str, previous: dict[str, str] | None) -> dict[str, object]:
        return record(make_run(previous, run_id)) | {"finished": "2020-01-01T00:00:00Z"}

    bundle.write_bundle(root, "prod", signer, early, {"report.html": render_html})
    runlog.append(root, signer)
    assert reason(root, signer) == "log-reordered"


def test_a_run_that_follows_a_later_one_is_named(root: Path, signer: Signer) -> None:
    """Somebody who holds the key writes a run of last year today; it cannot but follow the newest one."""
    bundle.write_bundle(root, "prod", signer, lambda run_id, before: record(make_run(before, run_id)), {})
    last = "20250101T020000Z-00000000"
    bundle.write_bundle(root, "prod", signer, lambda _, before: record(make_run(before, last)), {})
    with pytest.raises(VerificationError, match="a later run") as caught:
        verify_chain(root / "prod", [signer.public])
    assert caught.value.reason == "chain-broken"
    runlog.append(root, signer)
    assert reason(root, signer) == "chain-broken"


def test_the_log_keeps_the_order_of_runs_when_a_clock_is_set_back(root: Path, signer: Signer) -> None:
    """By no more than clocks are off; the first of the runs was cut off before it was logged."""
    ends = iter(("2026-11-23T02:04:00Z", "2026-11-23T02:01:00Z"))

    def report(run_id: str, before: dict[str, str] | None) -> dict[str, object]:
        return record(replace(make_run(before, run_id), finished=next(ends)))

    for _ in range(2):
        bundle.write_bundle(root, "prod", signer, report, {})
    runlog.append(root, signer)
    assert verify_log(root, [signer.public])[0].size == 2


def test_a_replaced_log_is_named(history: list[Path], root: Path, signer: Signer) -> None:
    shutil.rmtree(runlog.log_folder(root))
    assert reason(root, signer) == "log-missing"
    runlog.append(root, signer)
    verify_log(root, [signer.public])
    assert reason(root, signer, since=(root.parent / "kept").read_bytes()) == "log-replaced"


def test_unlogged_and_unsigned_runs_are_named(
    history: list[Path], write: WriteBundle, root: Path, signer: Signer
) -> None:
    path = write()
    assert reason(root, signer) == "log-run-unlogged"
    line = runlog.entry_of(path, json.loads((path / "report.json").read_bytes())).line
    entries = runlog.log_folder(root) / "entries.jsonl"
    entries.write_bytes(entries.read_bytes() + line + b"\n")
    assert reason(root, signer) == "log-unsigned"
    runlog.append(root, signer)
    assert len(verify_log(root, [signer.public])[1]) == 5


def test_a_run_that_was_cut_off_is_logged_by_the_next(
    history: list[Path], write: WriteBundle, root: Path, signer: Signer
) -> None:
    entries = runlog.log_folder(root) / "entries.jsonl"
    entries.write_bytes(entries.read_bytes() + b'{"half')
    write()
    assert runlog.append(root, signer).size == 5
    assert len(verify_log(root, [signer.public])[1]) == 5


def test_a_changed_log_is_not_written_on(history: list[Path], root: Path, signer: Signer) -> None:
    entries = runlog.log_folder(root) / "entries.jsonl"
    good = entries.read_bytes()
    for bad in (good.replace(b"failed", b"proven", 1), good[: len(good) // 2], b""):
        entries.write_bytes(bad)
        with pytest.raises(EvidenceError, match="changed"):
            runlog.append(root, signer)
        assert entries.read_bytes() == bad
    entries.write_bytes(good)
    runlog.checkpoint_file(root).unlink()
    with pytest.raises(EvidenceError, match="checkpoint is missing"):
        runlog.append(root, signer)


def test_a_checkpoint_by_another_key_is_refused(history: list[Path], root: Path, signer: Signer) -> None:
    stranger = Signer(new_seed())
    rewrite(root, stranger, lambda held: held)
    assert reason(root, signer) == "key-unknown"


def test_bits_of_a_signature_that_decoding_ignores_count(history: list[Path], root: Path, signer: Signer) -> None:
    good = runlog.checkpoint_file(root).read_bytes()
    assert good.endswith(b"=\n")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet.index(good[-3])
    for ignored in (1, 2, 3):
        changed = good[:-3] + alphabet[last ^ ignored : (last ^ ignored) + 1] + good[-2:]
        assert reason_of(partial(note.open_checkpoint, changed, [signer.public])) == "checkpoint-malformed"


def test_every_byte_of_a_checkpoint_counts(history: list[Path], root: Path, signer: Signer) -> None:
    file = runlog.checkpoint_file(root)
    good = file.read_bytes()
    flips = (good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(len(good)))
    told = {reason_of(partial(note.open_checkpoint, changed, [signer.public])) for changed in flips}
    assert told == {"checkpoint-malformed", "key-unknown", "signature-invalid"}
    for bad in (b"", good[:-1], good + b"x", good.replace(b"\n\n", b"\n"), b"\xff" + good, good * 2000):
        assert reason_of(partial(note.open_checkpoint, bad, [signer.public])) == "checkpoint-malformed", bad[:80]


EXAMPLES = {
    "the specification's": (
        "This is an example message.\n",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=",
    ),
    "that of Go's sumdb/note": (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
    ),
}
GO_KEY = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
"""The private key of Go's example: its type, then the seed."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_published_notes_verify(name: str) -> None:
    """https://c2sp.org/signed-note#example, and the documentation of golang.org/x/mod/sumdb/note."""
    text, verifier, signature = EXAMPLES[name]
    signed_by, key_hash, key = verifier.split("+", 2)
    public = base64.b64decode(key)
    assert public[:1] == b"\x01"
    found, [(whose, blob)] = note.parts(f"{text}\n\N{EM DASH} {signed_by} {signature}\n".encode())
    assert (found, whose) == (text, signed_by)
    assert blob[:4].hex() == note.key_hash(signed_by, public[:1], public[1:]).hex() == key_hash
    sign.check(public[1:], text.encode(), blob[4:])
    assert reason_of(lambda: sign.check(public[1:], text.encode() + b" ", blob[4:])) == "signature-invalid"


def test_a_published_note_is_signed_to_the_byte() -> None:
    text, verifier, signature = EXAMPLES["that of Go's sumdb/note"]
    own = Signer(base64.b64decode(GO_KEY)[1:])
    assert base64.b64encode(b"\x01" + own.public).decode() == verifier.split("+", 2)[2]
    whole = note.key_hash("PeterNeumann", b"\x01", own.public) + own.sign(text.encode())
    assert base64.b64encode(whole).decode() == signature


def test_an_auditor_cosigns_what_was_seen(history: list[Path], root: Path, signer: Signer) -> None:
    auditor = Signer(new_seed())
    kept = (root.parent / "kept").read_bytes()
    assert reason(root, signer, since=kept, cosigners={"auditor": auditor.public}) == "cosignature-missing"
    cosigned = note.add_cosignature(kept, "auditor", auditor, 1_800_000_000)
    assert note.cosigned_at(cosigned, {"auditor": auditor.public}) == {"auditor": 1_800_000_000}
    verify_log(root, [signer.public], since=cosigned, cosigners={"auditor": auditor.public})
    other = Signer(new_seed())
    assert reason(root, signer, since=cosigned, cosigners={"auditor": other.public}) == "cosignature-missing"
    text, line = cosigned.rsplit(b" ", 1)
    forged = text + b" " + line[:20] + (b"A" if line[20:21] != b"A" else b"B") + line[21:]
    assert reason(root, signer, since=forged, cosigners={"auditor": auditor.public}) == "signature-invalid"


def test_checkpoint_and_envelope_signatures_are_never_confused(signer: Signer) -> None:
    checkpoint = Checkpoint("tenantproof-log/x", 1, bytes(32))
    envelope = dsse.envelope(checkpoint.text.encode(), signer)
    assert reason_of(lambda: note.open_checkpoint(envelope, [signer.public])) == "checkpoint-malformed"


def test_one_bundle_is_shown_to_be_in_the_log(history: list[Path], root: Path, signer: Signer, tmp_path: Path) -> None:
    kept, proof = (root.parent / "kept").read_bytes(), prove(history[1], since=3)
    alone = tmp_path / "alone" / history[1].name
    shutil.copytree(history[1], alone)
    assert verify_proof(proof, alone, [signer.public], since=kept).size == 4
    bad = {
        "log-run-replaced": (proof, history[2]),
        "proof-invalid": (proof.replace(b'"index":1', b'"index":2'), alone),
        "proof-malformed": (proof.replace(b'"index":1', b'"index":"1"'), alone),
        "log-forked": (prove(history[1], since=2), alone),
        "json-malformed": (proof[:-1], alone),
        "envelope-malformed": (proof, alone),
    }
    for expected, (data, path) in bad.items():
        if expected == "envelope-malformed":
            (alone / "statement.intoto.jsonl").write_bytes(b"{}\n")
        with pytest.raises(VerificationError) as caught:
            verify_proof(data, path, [signer.public], since=kept)
        assert caught.value.reason == expected


def test_a_log_signed_by_a_bundles_own_key_is_never_that_of_a_trusted_one(
    history: list[Path], write: WriteBundle, root: Path, signer: Signer
) -> None:
    """The attacker adds a bundle with a key of their own, and signs with it a log that lacks what they removed."""
    own = Signer(new_seed(), ephemeral=True)
    write(own)
    shutil.rmtree(history[0])
    rewrite(root, own, lambda held: held[1:])
    assert reason(root, signer, allow_ephemeral=True) == "key-unknown"
    kept = runlog.checkpoint_file(root).read_bytes()
    assert reason(root, signer, allow_ephemeral=True, since=kept) == "key-unknown"


def test_a_scratch_folders_log_is_said_to_show_integrity_only(
    write: WriteBundle, root: Path, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Signer(new_seed(), ephemeral=True)
    write(own)
    runlog.append(root, own)
    assert main(["verify", "--chain", "--allow-ephemeral", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.endswith("(ephemeral: integrity only)") for line in lines)
    assert main(["verify", "--json", "--chain", "--allow-ephemeral", str(root)]) == 0
    assert json.loads(capsys.readouterr().out)["verified"][0]["ephemeral"] is True
    # the next run with a real key signs the log anew; the scratch bundle in it stays what it is
    (tmp_path / "k.pub").write_text(keys.public_pem(signer.public))
    write()
    runlog.append(root, signer)
    assert main(["verify", "--chain", "--allow-ephemeral", "--key", str(tmp_path / "k.pub"), str(root)]) == 0
    marked = ["ephemeral" in line for line in capsys.readouterr().out.splitlines()]
    assert marked == [False, True, False]
