"""Another target's bundle counts only when it is verified, of the same catalog, recent, and passed."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pytest_tenantproof import Severity
from pytest_tenantproof.attest import bundle
from pytest_tenantproof.attest.elsewhere import proven_elsewhere
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.model import Control, Elsewhere, Outcome, Result, Waiver
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
            return record(
                replace(run, results=((PROBE, result),), target=named, digests={"catalog": catalog}, finished=when)
            )

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


def test_a_forged_or_changed_bundle_proves_nothing(collect: Write, look: Callable[..., Elsewhere]) -> None:
    """Whoever can write to the folder has no key: neither a bundle of their own nor a mended one counts."""
    failed = collect(Outcome.FAILED)
    report = failed / "report.json"
    report.write_bytes(report.read_bytes().replace(b'"outcome": "failed"', b'"outcome": "passed"'))
    assert "could not be verified" in look().problem
    own = Signer(new_seed(), ephemeral=True)
    collect(by=own)
    assert "2 that claim to have could not be verified" in look().problem
    assert look(own.public).problem == ""


def test_junk_in_the_folder_is_passed_over(collect: Write, look: Callable[..., Elsewhere]) -> None:
    ran = collect()
    for content in (b"", b"[]", b'{"TP301": "%s"}' % (b"1" * 64), b'{"digests": "%s", "x": "TP301"}' % (b"1" * 64)):
        junk = ran.parent / f"20991231T000000Z-{len(content):08x}"
        junk.mkdir()
        (junk / "report.json").write_bytes(content)
    assert (look().run_id, look().problem) == (ran.name, "")
