"""A roll-up says what its bundles say, whoever signs it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.attest import bundle, dsse, keys
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.rollup import Member, verify_rollup, write_rollup
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.strictjson import canonical
from pytest_tenantproof.cli import main
from pytest_tenantproof.errors import VerificationError
from pytest_tenantproof.model import Scope, Verdict
from tests.attest.conftest import make_run

Statement = dict[str, Any]


def _write(root: Path, target: str, signer: Signer, verdict: str) -> Path:
    def report(run_id: str, previous: dict[str, str] | None) -> dict[str, Any]:
        run = make_run(previous, run_id, ephemeral=signer.ephemeral)
        run = replace(run, target={**run.target, "name": target})
        if verdict == "proven":
            run = replace(run, results=run.results[:1], scope=Scope(1, 1), verdict=Verdict.PROVEN)
        return record(run)

    return bundle.write_bundle(root, target, signer, report, {})


@pytest.fixture
def rollup(tmp_path: Path, signer: Signer) -> Path:
    """eu is proven, us failed, and asia left no bundle."""
    members = [Member("eu", _write(tmp_path, "eu", signer, "proven")), Member("us", _write(tmp_path, "us", signer, ""))]
    return write_rollup(tmp_path, [*members, Member("asia", None)], signer, datetime.now(UTC))


def _change(path: Path, signer: Signer, change: Callable[[Statement], object]) -> None:
    opened = dsse.open_envelope(path.read_bytes(), {signer.key_id: signer.public})
    statement = json.loads(opened.payload)
    change(statement)
    path.write_bytes(dsse.envelope(canonical(statement), signer))


def test_it_lists_who_is_proven_and_who_is_not(rollup: Path, signer: Signer) -> None:
    predicate, found = verify_rollup(rollup, [signer.public])
    assert (predicate["result"], predicate["passedTests"], predicate["failedTests"]) == (
        "FAILED",
        ["eu"],
        ["asia", "us"],
    )
    assert [v.target for v in found] == ["eu", "us"]
    with pytest.raises(VerificationError) as caught:
        verify_rollup(rollup, [Signer(new_seed()).public])
    assert caught.value.reason == "key-unknown"


def _swapped(statement: Statement) -> None:
    first, second = statement["subject"]
    first["digest"], second["digest"] = second["digest"], first["digest"]


LIES: dict[str, tuple[Callable[[Statement], object], str]] = {
    "the failed one is left unsaid": (
        lambda s: s["predicate"].update(failedTests=[], result="PASSED"),
        "report-inconsistent",
    ),
    "the failed one passed": (
        lambda s: s["predicate"].update(passedTests=["eu", "us"], failedTests=[], result="PASSED"),
        "report-inconsistent",
    ),
    "passed although one failed": (lambda s: s["predicate"].update(result="PASSED"), "report-inconsistent"),
    "both lists": (lambda s: s["predicate"].update(failedTests=["asia", "eu", "us"]), "report-inconsistent"),
    "no list": (lambda s: s["predicate"].update(failedTests=None), "report-inconsistent"),
    "a list of no names": (lambda s: s["predicate"].update(failedTests=["us", {}]), "report-inconsistent"),
    "nothing": (lambda s: s.update(predicate=None), "statement-malformed"),
    "the failed bundle is left out": (
        lambda s: (s["subject"].pop(), s["predicate"].update(failedTests=[], result="PASSED", passedTests=["us"])),
        "report-inconsistent",
    ),
    "twice": (lambda s: s["subject"].append(s["subject"][0]), "report-inconsistent"),
    "swapped": (_swapped, "subject-mismatch"),
    "no digest": (lambda s: s["subject"][0].update(digest=None), "statement-malformed"),
    "no subject": (lambda s: s.update(subject=[]), "statement-malformed"),
    "traversal": (lambda s: s["subject"][0].update(name="../eu/x"), "subject-name"),
    "deeper": (lambda s: s["subject"][0].update(name="a/b/c"), "subject-name"),
    "absolute": (lambda s: s["subject"][0].update(name="/etc/passwd"), "subject-name"),
    "dots": (lambda s: s["subject"][0].update(name="eu/.."), "subject-name"),
    "another type": (lambda s: s.update(predicateType="x"), "statement-malformed"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_roll_up_that_says_other_than_its_bundles(name: str, rollup: Path, signer: Signer) -> None:
    change, expected = LIES[name]
    _change(rollup, signer, change)
    with pytest.raises(VerificationError) as caught:
        verify_rollup(rollup, [signer.public])
    assert caught.value.reason == expected


def test_a_bundle_under_another_targets_name(rollup: Path, signer: Signer, tmp_path: Path) -> None:
    (eu,) = bundle.bundles(tmp_path / "eu")
    (tmp_path / "asia").mkdir()
    eu.rename(tmp_path / "asia" / eu.name)
    _change(rollup, signer, lambda s: s["subject"][0].update(name=f"asia/{eu.name}"))
    with pytest.raises(VerificationError) as caught:
        verify_rollup(rollup, [signer.public])
    assert caught.value.reason == "subject-mismatch"


def test_a_roll_up_without_a_key_of_somebodys_shows_integrity_only(
    tmp_path: Path, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Signer(new_seed(), ephemeral=True)
    members = [Member("eu", _write(tmp_path, "eu", own, "proven"))]
    path = write_rollup(tmp_path, members, own, datetime.now(UTC))
    assert main(["verify", "--allow-ephemeral", str(path)]) == 0
    assert [line.endswith("(ephemeral: integrity only)") for line in capsys.readouterr().out.splitlines()] == [
        True,
        True,
    ]
    (tmp_path / "k.pub").write_text(keys.public_pem(signer.public))
    assert main(["verify", "--allow-ephemeral", "--key", str(tmp_path / "k.pub"), str(path)]) == 1
    assert "key-unknown" in capsys.readouterr().err
    assert main(["verify", str(path.with_name("none.intoto.jsonl"))]) == 4
