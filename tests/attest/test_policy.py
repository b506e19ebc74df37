"""One yes or no: what a signed policy accepts, and every way in which evidence is not acceptable."""

import json
import shutil
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.attest import bundle, dsse, keys, policy, runlog, sign, vsa
from pytest_tenantproof.attest.authority import Authority
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.cli import main
from pytest_tenantproof.errors import VerificationError
from tests.attest.support import NOW, Change, WriteProven, document, reason_of, reasons
from tests.attest.tsa import serve


def test_good_evidence_is_accepted(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    proven()
    assert reasons(tmp_path, document(signer)) == ""


CHANGES: dict[str, tuple[Change, str]] = {
    "failed": (lambda r: r["controls"][0].update(outcome="failed", reason="x"), "the verdict is failed"),
    "old": (lambda r: r.update(finished="2020-01-01T00:00:00Z"), "old, older than 24.0 h"),
    "future": (lambda r: r.update(finished="2098-01-01T00:00:00Z"), "from the future"),
    "narrowed": (lambda r: r["scope"].update(narrowed=True), "the scope is partial"),
    "other scope": (lambda r: r["scope"].update(expression="rls"), "the scope is rls"),
    "not run": (lambda r: r["controls"][0].update(outcome="not_run", reason="x"), "TP901 is not_run"),
    "left out": (lambda r: r.update(controls=[], scope=r["scope"] | {"selected": 0, "of": 0}), "no control * was run"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_evidence_that_is_not_acceptable_says_why(
    name: str, proven: WriteProven, signer: Signer, tmp_path: Path
) -> None:
    change, said = CHANGES[name]
    proven(change)
    assert said in reasons(tmp_path, document(signer))


def test_missing_and_foreign_evidence_is_refused(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    assert "there is no evidence" in reasons(tmp_path, document(signer))
    proven(by=Signer(new_seed()))
    assert "key-unknown" in reasons(tmp_path, document(signer))
    path = proven()
    (path / "report.html").write_bytes(b"edited")
    assert "subject-mismatch" in reasons(tmp_path, document(signer))


def test_an_old_bundle_does_not_hide_behind_a_newer_one(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    proven()
    proven(CHANGES["failed"][0])
    assert "the verdict is failed" in reasons(tmp_path, document(signer))


def test_a_waived_control_needs_a_policy_that_allows_it(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    waiver = {"control": "TP901", "object": "x", "owner": "a", "approver": "b", "reason": "c", "expires": "2027-01-01"}

    finding = {"object": "x", "detail": "y", "fix": "", "tenant": None, "role": None, "operation": None}

    def waived(report: dict[str, Any]) -> None:
        report["controls"].append(report["controls"][0] | {"id": "TP902"})
        report["scope"].update(selected=2, of=2)
        report["controls"][0].update(outcome="failed", waiver=waiver | {"ticket": ""}, findings=[finding])

    proven(waived)
    assert "TP901 is waived" in reasons(tmp_path, document(signer))
    assert reasons(tmp_path, document(signer, waivers=True)) == ""


def _two(**second: Any) -> Change:
    """TP901, which passed, and TP902, which is like it but for that."""

    def change(report: dict[str, Any]) -> None:
        report["controls"].append(report["controls"][0] | {"id": "TP902"} | second)
        report["scope"].update(selected=2, of=2)

    return change


ABSENT = {"outcome": "not_applicable", "reason": "nothing of the kind is configured"}


def test_a_control_that_was_made_not_applicable_is_missed(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    """By a change of the configuration, or of the database, a control may have nothing to say: only the policy's
    writer says that it may."""
    proven(_two(**ABSENT))
    for controls in (["*"], ["TP90*"], ["TP901", "TP902"]):
        assert "TP902 is not_applicable" in reasons(tmp_path, document(signer, controls=controls))
    assert reasons(tmp_path, document(signer, controls=["TP901"])) == ""
    assert reasons(tmp_path, document(signer, not_applicable=["TP902"])) == ""
    assert "TP902 is not_applicable" in reasons(tmp_path, document(signer, not_applicable=["TP901"]))


def test_what_another_target_proves_is_proven(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    there = {"control": "TP902", "reason": "it writes", "target": "staging", "run_id": "20261101T020000Z-00000001"}
    there |= {"sha256": "3" * 64, "finished": "2026-11-01T02:00:00Z"}

    def left(problem: str) -> Change:
        def change(report: dict[str, Any]) -> None:
            _two(**ABSENT)(report)
            report["proven_elsewhere"] = [there | {"age_days": 1.0, "problem": problem}]

        return change

    proven(left(""))
    assert reasons(tmp_path, document(signer)) == ""
    proven(left("that bundle is older than 7 days"))
    assert "TP902 is not_applicable" in reasons(tmp_path, document(signer))
    assert "the verdict is not_proven" in reasons(tmp_path, document(signer))


def _canary(outcome: str) -> Change:
    def change(report: dict[str, Any]) -> None:
        report["controls"][0].update(outcome=outcome, reason="x")
        report["scope"].update(expression="canary", of=2)

    return change


def test_runs_of_another_scope_prove_nothing_and_tell_on_it(
    proven: WriteProven, signer: Signer, tmp_path: Path
) -> None:
    proven(_canary("passed"))
    assert "the scope is canary" in reasons(tmp_path, document(signer))
    whole = proven()
    proven(_canary("passed"))
    assert reasons(tmp_path, document(signer)) == ""
    decision = policy.decide(policy.parse_policy(document(signer)), tmp_path / "evidence", NOW)
    assert [judged.run_id for judged in decision.bundles] == [whole.name]
    failing = proven(_canary("failed"))
    assert f"TP901 is failed in the newer run {failing.name}" in reasons(tmp_path, document(signer))
    assert reasons(tmp_path, document(signer, controls=["TP9*"])) != ""
    newest = proven(_canary("passed"))
    assert reasons(tmp_path, document(signer)) == ""
    (newest / "report.json").write_bytes(b"{}")
    assert f"{newest.name} does not verify" in reasons(tmp_path, document(signer))


def test_a_good_canary_of_another_target_hides_nothing(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    def other(report: dict[str, Any]) -> None:
        _canary("passed")(report)
        report["target"]["name"] = "staging"

    proven()
    proven(_canary("failed"))
    planted = proven(other)
    assert f"{planted.name} is a run of staging" in reasons(tmp_path, document(signer))


def test_without_the_log_nobody_knows_what_was_removed(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    proven()
    kept = runlog.checkpoint_file(tmp_path / "evidence").read_bytes()
    worse = proven(CHANGES["failed"][0])
    shutil.rmtree(worse)
    shutil.rmtree(runlog.log_folder(tmp_path / "evidence"))
    assert "log-missing" in reasons(tmp_path, document(signer))
    assert reasons(tmp_path, document(signer, log=False)) == ""
    # whoever holds the key can start another log
    runlog.append(tmp_path / "evidence", signer)
    assert reasons(tmp_path, document(signer)) == ""
    since = policy.decide(policy.parse_policy(document(signer)), tmp_path / "evidence", NOW, since=kept)
    assert "log-replaced" in since.reasons[0]


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        ({"not_after": "2021-01-01T00:00:00Z"}, "was not valid"),
        ({"not_before": "2098-01-01T00:00:00Z"}, "was not valid"),
        ({"revoked": "2021-01-01T00:00:00Z"}, "was revoked"),
        ({"revoked": "2099-01-01T00:00:00Z"}, "no authority attests"),
    ],
)
def test_a_key_counts_while_it_is_valid(
    dates: dict[str, str], said: str, proven: WriteProven, signer: Signer, tmp_path: Path
) -> None:
    proven()
    (key,) = json.loads(document(signer))["keys"]
    assert said in reasons(tmp_path, document(signer, keys=[key | dates]))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other"},
        {"targets": []},
        {"targets": "prod"},
        {"targets": ["../prod"]},
        {"targets": [".."]},
        {"targets": ["/tmp"]},
        {"controls": []},
        {"keys": []},
        {"keys": [{"pem": "x"}]},
        {"keys": [{"pem": "x", "not_before": "2020-01-01T00:00:00Z", "not_after": "2020-01-01T00:00:00Z"}]},
        {"max_age_hours": True},
        {"max_age_hours": 0},
        {"max_age_hours": 1e300},
        {"not_applicable": [1]},
        {"not_applicable": None},
        {"log": 1},
        {"more": 1},
        {"timestamp": "yes"},
    ],
)
def test_a_malformed_policy_is_refused(change: dict[str, Any], signer: Signer) -> None:
    with pytest.raises(VerificationError) as caught:
        policy.parse_policy(document(signer, **change))
    assert caught.value.reason == "policy-malformed"


def test_a_policy_is_believed_by_its_signature_and_type(signer: Signer) -> None:
    payload = document(signer)
    signed = dsse.envelope(payload, signer, policy.PAYLOAD_TYPE)
    assert policy.open_policy(signed, [signer.public]).name == "deploys"
    for bad, expected in (
        (dsse.envelope(payload, signer), "payload-type"),
        (dsse.envelope(payload, Signer(new_seed()), policy.PAYLOAD_TYPE), "key-unknown"),
    ):
        assert reason_of(partial(policy.open_policy, bad, [signer.public])) == expected


def test_the_gate_answers_and_attests(
    proven: WriteProven,
    signer: Signer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    private, public = keys.new_key(tmp_path, "security")
    monkeypatch.setenv(keys.KEY_FILE_VARIABLE, str(private))
    (tmp_path / "policy.json").write_bytes(document(signer))
    assert main(["policy", "policy.json", "--out", "policy.dsse.json"]) == 0
    arguments = [
        "verify",
        "--policy",
        "policy.dsse.json",
        "--policy-key",
        str(public),
        "--vsa",
        "gate.intoto.jsonl",
        "evidence",
    ]
    assert main(arguments) == 1
    assert "there is no evidence" in capsys.readouterr().err
    path = proven()
    assert main(arguments) == 0
    key = keys.read_public(public)
    opened = dsse.open_envelope((tmp_path / "gate.intoto.jsonl").read_bytes(), {sign.key_id(key): key})
    statement = json.loads(opened.payload)
    assert statement["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert statement["predicate"]["verificationResult"] == "PASSED"
    assert statement["subject"][0]["name"] == f"prod/{path.name}/report.json"


def test_a_pipeline_checks_the_gates_answer(
    proven: WriteProven,
    signer: Signer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It believes one key, and deploys the target that the answer is of, while it is fresh."""
    monkeypatch.chdir(tmp_path)
    accepted = policy.parse_policy(document(signer))
    gate, stranger = Signer(new_seed()), Signer(new_seed())
    Path("gate.pub").write_text(keys.public_pem(gate.public))

    def answer(name: str, by: Signer, now: datetime) -> list[str]:
        decision = policy.decide(accepted, tmp_path / "evidence", NOW)
        Path(name).write_bytes(dsse.envelope(vsa.summary(accepted, decision, now, version="0.1.0"), by))
        return ["verify", "--key", "gate.pub", name]

    closed = answer("closed.jsonl", gate, NOW)
    proven()
    good, old = answer("good.jsonl", gate, NOW), answer("old.jsonl", gate, NOW - timedelta(hours=2))
    forged, future = answer("forged.jsonl", stranger, NOW), answer("future.jsonl", gate, NOW + timedelta(hours=1))
    assert main([*good, "--deploy", "prod"]) == 0
    assert "yes: prod, by policy deploys" in capsys.readouterr().out
    refused = {
        "did not accept": [*closed, "--deploy", "prod"],
        "not of staging": [*good, "--deploy", "staging"],
        "may be 1:00:00 old": [*old, "--deploy", "prod", "--max-age-hours", "1"],
        "was made at": [*future, "--deploy", "prod"],
        "key-unknown": [*forged, "--deploy", "prod"],
    }
    for said, arguments in refused.items():
        assert main(arguments) == 1, said
        assert said in capsys.readouterr().err
    assert main(good) == 4
    # a roll-up or a bundle's statement is none, whoever signed it
    statement = (bundle.bundles(tmp_path / "evidence" / "prod")[0] / bundle.STATEMENT_FILE).read_bytes()
    with pytest.raises(VerificationError) as caught:
        vsa.open_summary(statement, [signer.public])
    assert caught.value.reason == "statement-malformed"


@pytest.mark.parametrize(
    "change", [{"timeVerified": 1}, {"policy": None}, {"resourceUri": []}, {"timeVerified": "now"}]
)
def test_a_misshapen_answer_is_refused(
    change: dict[str, Any], signer: Signer, tmp_path: Path, proven: WriteProven
) -> None:
    proven()
    accepted = policy.parse_policy(document(signer))
    told = json.loads(vsa.summary(accepted, policy.decide(accepted, tmp_path / "evidence", NOW), NOW, version=""))
    for wrong in (
        told | {"predicate": told["predicate"] | change},
        told | {"predicate": None},
        {"predicateType": vsa.SUMMARY},
    ):
        with pytest.raises(VerificationError) as caught:
            vsa.open_summary(dsse.envelope(json.dumps(wrong).encode(), signer), [signer.public])
        assert caught.value.reason == "statement-malformed"


def test_time_passes(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    proven()
    assert "older than" in reasons(tmp_path, document(signer), NOW + timedelta(hours=25))


def test_a_later_timestamp_makes_nothing_younger(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    """Anybody may have an old bundle's signature stamped again by the pinned authority."""
    old = proven(CHANGES["old"][0])
    with serve(tmp_path / "tsa") as tsa:
        signature = dsse.signature_of((old / "statement.intoto.jsonl").read_bytes())
        (old / "statement.tsr").write_bytes(Authority(tsa.url, tsa.root).stamp(signature).response)
        decision = policy.decide(policy.parse_policy(document(signer)), tmp_path / "evidence", NOW, roots=tsa.root)
    assert any("does not verify (timestamp-apart)" in reason for reason in decision.reasons)


def test_a_newer_run_that_was_hidden_is_missed(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    proven()
    worse = proven(CHANGES["failed"][0])
    runlog.append(tmp_path / "evidence", signer)
    worse.rename(worse.with_name("hidden"))
    assert "log-run-removed" in reasons(tmp_path, document(signer))
