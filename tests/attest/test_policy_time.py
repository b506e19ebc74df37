"""When a key counts, by trusted time and without it: rotation, revocation, and how far clocks may be apart.

Times of a policy are whole seconds, as those of the authority are, so each limit is tried on both of its sides.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.attest import bundle, dsse, keys, policy, vsa
from pytest_tenantproof.attest.authority import Authority
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.verify import TrustedTime, verify_bundle
from pytest_tenantproof.attest.vsa import Gate, require_gate
from pytest_tenantproof.cli import main
from tests.attest.conftest import make_run
from tests.attest.support import NOW, WriteProven, document, reason_of, reasons
from tests.attest.tsa import Tsa, serve

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tsa]:
    with serve(tmp_path_factory.mktemp("authority") / "tsa") as found:
        yield found


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _with_key(signer: Signer, **dates: datetime) -> bytes:
    """A policy whose only key has these dates."""
    (key,) = json.loads(document(signer))["keys"]
    return document(signer, keys=[key | {name: _text(moment) for name, moment in dates.items()}])


def _stamped(proven: WriteProven, tsa: Tsa, by: Signer, finished: datetime | None = None) -> datetime:
    """Writes a bundle with a timestamp, and returns the time that the authority attests."""
    seen: list[datetime] = []

    def stamp(signature: bytes) -> bytes:
        found = Authority(tsa.url, tsa.root).stamp(signature)
        seen.append(found.time)
        return found.response

    proven(lambda report: report.update(finished=_text(finished or datetime.now(UTC))), by, stamp)
    return seen[0]


def test_a_revoked_key_counts_for_what_it_signed_before_by_trusted_time_alone(
    proven: WriteProven, signer: Signer, tmp_path: Path, tsa: Tsa
) -> None:
    made = _stamped(proven, tsa, signer)
    after, at, before = (_with_key(signer, revoked=made + by) for by in (SECOND, 0 * SECOND, -SECOND))
    assert reasons(tmp_path, after, made, roots=tsa.root) == ""
    # The same bundle, read without the authority's root: its own word for when it was made is worth nothing.
    assert "no authority attests that it signed before that" in reasons(tmp_path, after, made)
    for revoked in (at, before):
        assert "before it signed" in reasons(tmp_path, revoked, made, roots=tsa.root)


def test_a_bundle_without_a_timestamp_by_a_key_revoked_later_is_refused(
    proven: WriteProven, signer: Signer, tmp_path: Path, tsa: Tsa
) -> None:
    proven()
    later = _with_key(signer, revoked=NOW + timedelta(days=300))
    assert "no authority attests" in reasons(tmp_path, later, roots=tsa.root)


def test_a_key_dated_back_by_its_holder_does_not_reach_behind_its_revocation(
    proven: WriteProven, signer: Signer, tmp_path: Path, tsa: Tsa
) -> None:
    """The report says that it finished before the key was lost, within what a timestamp may be apart."""
    dated = datetime.now(UTC) - timedelta(minutes=10)
    made = _stamped(proven, tsa, signer, dated)
    given = _with_key(signer, revoked=dated + timedelta(minutes=5))
    assert "before it signed" in reasons(tmp_path, given, made, roots=tsa.root)


def test_rotation_by_trusted_time(proven: WriteProven, signer: Signer, tmp_path: Path, tsa: Tsa) -> None:
    """The old key counts up to the second of the change, the new one from that second on. What the signer says of
    the time does not matter where an authority says it."""
    made = _stamped(proven, tsa, signer, datetime.now(UTC) - timedelta(minutes=10))
    for dates in ({"not_after": made}, {"not_before": made}):
        assert reasons(tmp_path, _with_key(signer, **dates), made, roots=tsa.root) == ""
    for dates in ({"not_after": made - SECOND}, {"not_before": made + SECOND}):
        assert f"was not valid at {_text(made)}" in reasons(tmp_path, _with_key(signer, **dates), made, roots=tsa.root)


def test_two_keys_with_one_day_of_change(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    new = Signer(new_seed())
    (old_key,), (new_key,) = (json.loads(document(who))["keys"] for who in (signer, new))
    change = datetime(2026, 6, 1, tzinfo=UTC)
    both = [old_key | {"not_after": _text(change)}, new_key | {"not_before": _text(change)}]
    given = document(signer, keys=both, max_age_hours=24 * 365)
    for by, good, bad in ((signer, change, change + SECOND), (new, change, change - SECOND)):
        for when, expected in ((good, ""), (bad, "was not valid")):
            proven(lambda report, when=when: report.update(finished=_text(when)), by)
            found = reasons(tmp_path, given, change)
            assert (found == "") is (expected == "")
            assert expected in found


def test_a_policy_that_asks_for_trusted_time(
    proven: WriteProven, signer: Signer, tmp_path: Path, tsa: Tsa, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asks = document(signer, timestamp=True)
    proven()
    assert "timestamp-missing" in reasons(tmp_path, asks, roots=tsa.root)
    made = _stamped(proven, tsa, signer)
    assert reasons(tmp_path, asks, made, roots=tsa.root) == ""
    assert "timestamp-missing" in reasons(tmp_path, asks), "nobody says whom to trust for it"
    with serve(tmp_path_factory.mktemp("other") / "tsa") as other:
        assert "timestamp-untrusted" in reasons(tmp_path, asks, made, roots=other.root)


def test_the_command_takes_the_authoritys_root(
    proven: WriteProven,
    signer: Signer,
    tmp_path: Path,
    tsa: Tsa,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = _stamped(proven, tsa, signer)
    writer = Signer(new_seed())
    (tmp_path / "security.pub").write_text(keys.public_pem(writer.public))
    given = _with_key(signer, revoked=made + timedelta(days=1))
    (tmp_path / "p.json").write_bytes(dsse.envelope(given, writer, policy.PAYLOAD_TYPE))
    line = ["verify", "--policy", str(tmp_path / "p.json"), "--policy-key", str(tmp_path / "security.pub")]
    assert main([*line, str(tmp_path / "evidence")]) == 1
    assert "no authority attests" in capsys.readouterr().err
    assert main([*line, "--tsa-root", str(tsa.root), str(tmp_path / "evidence")]) == 0
    assert "yes: prod" in capsys.readouterr().out


@pytest.mark.parametrize(("ahead", "accepted"), [(timedelta(minutes=5), True), (timedelta(minutes=5) + SECOND, False)])
def test_evidence_from_the_future(
    ahead: timedelta, accepted: bool, proven: WriteProven, signer: Signer, tmp_path: Path
) -> None:
    """A clock may be five minutes ahead."""
    now = NOW.replace(microsecond=0)
    proven(lambda report: report.update(finished=_text(now + ahead)))
    assert ("from the future" not in reasons(tmp_path, document(signer), now)) is accepted


@pytest.mark.parametrize(("more", "accepted"), [(0 * SECOND, True), (SECOND, False)])
def test_the_oldest_that_is_accepted(
    more: timedelta, accepted: bool, proven: WriteProven, signer: Signer, tmp_path: Path
) -> None:
    now = NOW.replace(microsecond=0)
    proven(lambda report: report.update(finished=_text(now - timedelta(hours=24) - more)))
    assert (reasons(tmp_path, document(signer), now) == "") is accepted


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize(("more", "reason"), [(0 * SECOND, ""), (SECOND, "timestamp-apart")])
def test_how_far_report_and_authority_may_be_apart(
    direction: int, more: timedelta, reason: str, signer: Signer, tmp_path: Path, tsa: Tsa
) -> None:
    """Fifteen minutes, either way: a second more is a report that was dated. The token is the authority's over this
    very signature, so the report is dated first, and signed until a token of the right second comes."""
    for _ in range(20):
        seen: list[datetime] = []
        expected = datetime.now(UTC).replace(microsecond=0)
        finished = expected + direction * (timedelta(minutes=15) + more)

        def stamp(signature: bytes, seen: list[datetime] = seen) -> bytes:
            found = Authority(tsa.url, tsa.root).stamp(signature)
            seen.append(found.time)
            return found.response

        def report(run_id: str, previous: dict[str, str] | None, finished: datetime = finished) -> dict[str, Any]:
            return record(make_run(previous, run_id)) | {"finished": _text(finished)}

        path = bundle.write_bundle(tmp_path / "evidence", "prod", signer, report, {}, stamp=stamp)
        if seen == [expected]:
            break
    assert seen == [expected], "the authority is slower than a second"

    def verify() -> datetime | None:
        return verify_bundle(path, [signer.public], time=TrustedTime(tsa.root)).trusted_time

    if reason:
        assert reason_of(verify) == reason
    else:
        assert verify() == expected


@pytest.mark.parametrize(
    ("off", "open_"),
    [
        (timedelta(minutes=-5), True),
        (timedelta(minutes=-5) - SECOND, False),
        (timedelta(hours=1), True),
        (timedelta(hours=1) + SECOND, False),
    ],
)
def test_a_pipelines_clock_and_the_gates(off: timedelta, open_: bool) -> None:
    gate = Gate(True, "deploys", "0" * 64, ("prod",), NOW)

    def ask() -> None:
        require_gate(gate, "prod", NOW + off, timedelta(hours=1))

    if open_:
        ask()
    else:
        assert reason_of(ask) == "gate-refused"


def test_a_summary_has_every_field_that_slsa_asks_for(proven: WriteProven, signer: Signer, tmp_path: Path) -> None:
    """https://slsa.dev/spec/v1.0/verification_summary: those that it calls required, and the version beside them."""
    accepted = policy.parse_policy(document(signer))
    for write, result, levels in ((lambda: None, "FAILED", ["FAILED"]), (proven, "PASSED", ["TENANTPROOF_PROVEN"])):
        write()
        told = json.loads(vsa.summary(accepted, policy.decide(accepted, tmp_path / "evidence", NOW), NOW, version="1"))
        assert (told["_type"], told["predicateType"]) == (
            "https://in-toto.io/Statement/v1",
            "https://slsa.dev/verification_summary/v1",
        )
        predicate = told["predicate"]
        assert predicate["verifier"]["id"].startswith("https://")
        assert predicate["timeVerified"] == _text(NOW)
        assert predicate["resourceUri"] == "prod"
        assert predicate["policy"] == {"uri": "deploys", "digest": {"sha256": accepted.sha256}}
        assert predicate["verificationResult"] == result
        assert predicate["verifiedLevels"] == levels
        assert predicate["slsaVersion"] == "1.0"
    assert [set(one) for one in (*told["subject"], *predicate["inputAttestations"])] == [
        {"name", "digest"},
        {"uri", "digest"},
    ]
