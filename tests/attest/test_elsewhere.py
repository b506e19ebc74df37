"""Another target's bundle counts only when it is verified, of the same catalog, recent, and passed."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pytest_tenantproof import Severity
from pytest_tenantproof.attest import bundle, dsse
from pytest_tenantproof.attest.elsewhere import last_report, proven_elsewhere
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.statement import statement
from pytest_tenantproof.errors import VerificationError
from pytest_tenantproof.model import Control, Elsewhere, Outcome, Result, Scope, Waiver, verdict_of
from pytest_tenantproof.report import render_html
from tests.attest.conftest import make_run

CATALOG = "1" * 64
NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)
PROBE = Control("TP301", "A probe", Severity.HIGH, "A1", None, "probe", "Why.")
WANTED = (Result("TP301", Outcome.NOT_APPLICABLE, "it writes", elsewhere=True),)
Write = Callable[..., Path]


@pytest.fixture
def collect(tmp_path: Path, signer: Signer) -> Write:
    """Writes a bundle in which TP301 had that outcome."""

    def again(
        outcome: Outcome = Outcome.PASSED,
        *,
        target: str = "staging",
        catalog: str = CATALOG,
        by: Signer = signer,
        finished: datetime = NOW - timedelta(days=1),
        waiver: Waiver | None = None,
    ) -> Path:
        def report(run_id: str, previous: dict[str, str] | None) -> dict[str, object]:
            result = Result("TP301", outcome, "a reason", waiver=waiver)
            run = make_run(previous, run_id, ephemeral=by.ephemeral)
            named = {**run.target, "name": target, "class": "staging"}
            when = f"{finished:%Y-%m-%dT%H:%M:%SZ}"
            changed = replace(
                run, results=((PROBE, result),), target=named, digests={"catalog": catalog}, finished=when
            )
            scope = Scope(1, 1)
            return record(replace(changed, scope=scope, verdict=verdict_of((result,), scope)[0]))

        return bundle.write_bundle(tmp_path / "evidence", target, by, report, {"report.html": render_html})

    return again


@pytest.fixture
def look(tmp_path: Path, signer: Signer) -> Callable[..., Elsewhere]:
    def now(*trusted: bytes) -> Elsewhere:
        (there,) = proven_elsewhere(tmp_path / "evidence", WANTED, CATALOG, trusted or (signer.public,), NOW, 7)
        return there

    return now


def test_the_newest_bundle_that_passed_is_named_with_digest_and_age(
    collect: Write, look: Callable[..., Elsewhere]
) -> None:
    collect()
    time.sleep(1.1)  # names of different targets are ordered by the second
    newest = collect(target="ci")
    there = look()
    assert (there.problem, there.target, there.run_id, there.age_days) == ("", "ci", newest.name, 1.0)
    assert len(there.sha256) == 64


def test_without_any_bundle_it_is_proven_nowhere(look: Callable[..., Elsewhere]) -> None:
    assert look().problem == "no bundle of the same catalog ran it"


def test_what_can_run_here_is_not_looked_for(tmp_path: Path, signer: Signer) -> None:
    here = (Result("TP942", Outcome.NOT_APPLICABLE, "no authority"), Result("TP301", Outcome.PASSED))
    assert proven_elsewhere(tmp_path, here, CATALOG, (signer.public,), NOW, 7) == ()


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ERROR])
def test_a_newer_failure_is_not_hidden_by_an_older_pass(
    outcome: Outcome, collect: Write, look: Callable[..., Elsewhere]
) -> None:
    collect()
    collect(outcome)
    assert "did not pass there" in look().problem


def test_a_waived_failure_proves_nothing(collect: Write, look: Callable[..., Elsewhere]) -> None:
    waiver = Waiver("TP301", "*", "ann", "bob", "later", NOW.date())
    collect(Outcome.FAILED, waiver=waiver)
    assert "did not pass there" in look().problem


@pytest.mark.parametrize("outcome", [Outcome.NOT_RUN, Outcome.NOT_APPLICABLE])
def test_a_bundle_that_did_not_run_it_is_passed_over(
    outcome: Outcome, collect: Write, look: Callable[..., Elsewhere]
) -> None:
    ran = collect()
    collect(outcome)
    assert (look().run_id, look().problem) == (ran.name, "")


def test_another_catalog_an_old_bundle_and_one_from_the_future_prove_nothing(
    collect: Write, look: Callable[..., Elsewhere]
) -> None:
    collect(catalog="2" * 64)
    assert "no bundle" in look().problem
    collect(finished=NOW - timedelta(days=8))
    assert "older than 7 days" in look().problem
    collect(finished=NOW + timedelta(days=1))
    assert "future" in look().problem


def _edit(path: Path, old: bytes, new: bytes) -> None:
    report = path / "report.json"
    assert old in report.read_bytes()
    report.write_bytes(report.read_bytes().replace(old, new))


def test_a_forged_or_changed_bundle_proves_nothing(collect: Write, look: Callable[..., Elsewhere]) -> None:
    """Whoever can write to the folder has no key: neither a bundle of their own nor a mended one counts."""
    failed = collect(Outcome.FAILED)
    _edit(failed, b'"outcome": "failed"', b'"outcome": "passed"')
    assert f"bundle staging {failed.name} cannot be verified (subject-mismatch)" in look().problem
    own = Signer(new_seed(), ephemeral=True)
    collect(by=own)
    assert "no bundle of the same catalog ran it" in look().problem
    assert look(own.public).problem == ""


def _empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "says that it was not run": lambda p: _edit(p, b'"outcome": "failed"', b'"outcome": "not_run"'),
    "says that the catalog was another": lambda p: _edit(p, CATALOG.encode(), b"2" * 64),
    "says that it is a scratch run": lambda p: _edit(p, b'"ephemeral": false', b'"ephemeral": true'),
    "no JSON": lambda p: (p / "report.json").write_bytes(b"{"),
    "empty": lambda p: (p / "report.json").write_bytes(b""),
    "no report": lambda p: (p / "report.json").unlink(),
    "no statement": lambda p: (p / bundle.STATEMENT_FILE).unlink(),
    "nothing": _empty,
    "another key": lambda p: (p / bundle.STATEMENT_FILE).write_bytes(
        dsse.envelope(statement(json.loads((p / "report.json").read_bytes()), {"report.json": b""}), Signer(new_seed()))
    ),
    "page": lambda p: (p / "report.html").write_bytes(b""),
    "a link": lambda p: (p / "report.json").symlink_to((p / "report.json").rename(p / "moved")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_newer_failure_that_was_damaged_is_not_passed_over(
    name: str, collect: Write, look: Callable[..., Elsewhere]
) -> None:
    """Nobody knows what it said, so the older pass proves nothing."""
    collect()
    failed = collect(Outcome.FAILED)
    DAMAGE[name](failed)
    assert f"a newer bundle staging {failed.name} cannot be verified" in look().problem


def test_a_pass_after_the_damage_counts(collect: Write, look: Callable[..., Elsewhere]) -> None:
    _edit(collect(Outcome.FAILED), b'"failed"', b'"passed"')
    newest = collect()
    assert (look().run_id, look().problem) == (newest.name, "")


def test_whole_scratch_bundles_are_passed_over(collect: Write, look: Callable[..., Elsewhere]) -> None:
    """A developer's run in the same folder, with a key of its own, says nothing either way; a damaged one might be
    anything."""
    ran = collect()
    scratch = collect(Outcome.FAILED, by=Signer(new_seed(), ephemeral=True))
    assert (look().run_id, look().problem) == (ran.name, "")
    (scratch / "report.json").write_bytes(b"{}")
    assert "cannot be verified" in look().problem


def test_the_last_report_is_the_newest_that_a_trusted_key_signed(
    collect: Write, signer: Signer, tmp_path: Path
) -> None:
    folder, trusted = tmp_path / "evidence" / "staging", (signer.public,)
    assert last_report(folder, trusted, scratch=False) is None
    collect()
    second = collect(catalog="3" * 64)
    scratch = collect(catalog="4" * 64, by=Signer(new_seed(), ephemeral=True))
    found = last_report(folder, trusted, scratch=False)
    assert found is not None
    assert (found["run_id"], found["digests"]["catalog"]) == (second.name, "3" * 64)
    own = last_report(folder, (), scratch=True)
    assert own is not None
    assert own["run_id"] == scratch.name
    _edit(scratch, b"4" * 64, b"5" * 64)
    with pytest.raises(VerificationError) as caught:
        last_report(folder, trusted, scratch=False)
    assert caught.value.reason == "key-unknown"
    shutil.rmtree(scratch)
    _edit(second, b"3" * 64, b"5" * 64)
    with pytest.raises(VerificationError) as caught:
        last_report(folder, trusted, scratch=False)
    assert caught.value.reason == "subject-mismatch"
