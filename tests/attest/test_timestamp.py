"""Trusted time from a real authority (openssl ts over HTTP), and everything that can be wrong with it."""

import dataclasses
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pytest_tenantproof.attest import bundle, runlog, timestamp
from pytest_tenantproof.attest.authority import Authority
from pytest_tenantproof.attest.record import record
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.attest.verify import TrustedTime, verify_bundle
from pytest_tenantproof.attest.verify_log import verify_log
from pytest_tenantproof.errors import ConfigError, EvidenceError, VerificationError
from tests.attest.conftest import WriteBundle, make_run
from tests.attest.support import reason_of
from tests.attest.tsa import Tsa, serve


@pytest.fixture
def tsa(tmp_path: Path) -> Iterator[Tsa]:
    with serve(tmp_path / "tsa") as found:
        yield found


@pytest.fixture
def authority(tsa: Tsa) -> Authority:
    return Authority(tsa.url, tsa.root, timeout_s=5)


def test_a_timestamp_says_when(authority: Authority) -> None:
    stamp = authority.stamp(b"a signature")
    assert abs(datetime.now(UTC) - stamp.time) < timedelta(seconds=10)
    roots = timestamp.read_roots(authority.roots)
    assert timestamp.verify_token(stamp.response, b"a signature", roots) == stamp.time
    with pytest.raises(VerificationError) as caught:
        timestamp.verify_token(stamp.response, b"another signature", roots)
    assert caught.value.reason == "timestamp-mismatch"


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("error", "HTTPError"),
        ("garbage", "timestamp-malformed"),
        ("refuse", "timestamp-refused"),
        ("replay", "timestamp-mismatch"),
        ("slow", "ReadTimeout"),
    ],
)
def test_no_usable_answer_is_an_error_with_its_reason(tsa: Tsa, authority: Authority, mode: str, said: str) -> None:
    authority.stamp(b"yesterday")
    tsa.mode = mode
    with pytest.raises(EvidenceError, match=said):
        dataclasses.replace(authority, timeout_s=0.5 if mode == "slow" else 5).stamp(b"today")


def test_an_answer_to_another_request_over_the_same_data_is_refused(tsa: Tsa, authority: Authority) -> None:
    authority.stamp(b"same")
    tsa.mode = "replay"
    with pytest.raises(EvidenceError, match=r"timestamp-untrusted.*Nonce"):
        authority.stamp(b"same")


def test_another_root_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    with serve(tmp_path / "other") as other, pytest.raises(EvidenceError, match="timestamp-untrusted"):
        dataclasses.replace(authority, roots=other.root).stamp(b"data")
    with pytest.raises(ConfigError, match="no certificate"):
        dataclasses.replace(authority, roots=tmp_path / "none.pem").stamp(b"data")


def test_a_token_outlives_the_certificates_that_signed_it(tsa: Tsa, authority: Authority) -> None:
    """They are judged at the time that the token was made, not now: evidence is read years later."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    tsa.limit(end - timedelta(days=1), end)
    stamp = authority.stamp(b"data")
    while datetime.now(UTC) < end + timedelta(seconds=1):
        time.sleep(0.05)
    assert timestamp.verify_token(stamp.response, b"data", timestamp.read_roots(tsa.root)) == stamp.time
    # what it signs from now on is refused
    with pytest.raises(EvidenceError, match="timestamp-untrusted"):
        authority.stamp(b"data")


@pytest.mark.parametrize("first_day", [1, -9])
def test_a_certificate_that_was_not_valid_when_the_token_was_made(
    tsa: Tsa, authority: Authority, first_day: int
) -> None:
    """Not yet, or no more: whatever its holder says of the time."""
    token = authority.stamp(b"data").response
    tsa.limit(*(datetime.now(UTC) + timedelta(days=first_day + more) for more in (0, 8)))
    with pytest.raises(EvidenceError, match="timestamp-untrusted"):
        authority.stamp(b"data")
    # The certificate comes with the token, the root from whoever verifies: either one's dates are enough.
    assert (
        reason_of(lambda: timestamp.verify_token(token, b"data", timestamp.read_roots(tsa.root)))
        == "timestamp-untrusted"
    )


def test_any_changed_byte_of_a_token_is_noticed(authority: Authority) -> None:
    stamp, roots = authority.stamp(b"data"), timestamp.read_roots(authority.roots)
    unnoticed = []
    for at in range(len(stamp.response)):
        changed = stamp.response[:at] + bytes([stamp.response[at] ^ 1]) + stamp.response[at + 1 :]
        try:
            timestamp.verify_token(changed, b"data", roots)
            unnoticed.append(at)
        except VerificationError:
            continue
    # Unsigned parts of a CMS message say nothing about the time; the log of runs covers them.
    assert len(unnoticed) < len(stamp.response) // 20, unnoticed


def test_bundles_carry_their_timestamp(
    write: WriteBundle, signer: Signer, authority: Authority, tmp_path: Path
) -> None:
    bare, stamped = write(), write(stamp=lambda signature: authority.stamp(signature).response)
    wanted = TrustedTime(authority.roots)
    assert verify_bundle(stamped, [signer.public], time=wanted).trusted_time is not None
    assert verify_bundle(bare, [signer.public], time=dataclasses.replace(wanted, required=False)).trusted_time is None
    with pytest.raises(VerificationError) as caught:
        verify_bundle(bare, [signer.public], time=wanted)
    assert caught.value.reason == "timestamp-missing"
    root = tmp_path / "evidence"
    runlog.append(root, signer)
    verify_log(root, [signer.public])
    (bare / "statement.tsr").write_bytes((stamped / "statement.tsr").read_bytes())
    with pytest.raises(VerificationError) as caught:
        verify_bundle(bare, [signer.public], time=wanted)
    assert caught.value.reason == "timestamp-mismatch"
    with pytest.raises(VerificationError) as caught:
        verify_log(root, [signer.public])
    assert caught.value.reason == "log-run-replaced"


def test_any_changed_byte_of_a_stored_timestamp_is_noticed(
    write: WriteBundle, signer: Signer, authority: Authority, tmp_path: Path
) -> None:
    """By the log each one; by the bundle alone all but those that the authority's format leaves unsigned, which change
    neither what is attested nor when."""
    path = write(stamp=lambda signature: authority.stamp(signature).response)
    root, wanted, file = tmp_path / "evidence", TrustedTime(authority.roots), path / bundle.TIMESTAMP_FILE
    runlog.append(root, signer)
    token = file.read_bytes()
    seen = verify_bundle(path, [signer.public], time=wanted).trusted_time
    told: set[str] = set()
    for at in range(len(token)):
        file.write_bytes(token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :])
        assert reason_of(lambda: verify_log(root, [signer.public])) == "log-run-replaced", at
        try:
            assert verify_bundle(path, [signer.public], time=wanted).trusted_time == seen, at
        except VerificationError as error:
            told.add(error.reason)
    assert told == {"timestamp-malformed", "timestamp-mismatch", "timestamp-refused", "timestamp-untrusted"}
    file.write_bytes(token)
    verify_log(root, [signer.public])


def test_a_report_dated_back_is_told_by_its_timestamp(tmp_path: Path, signer: Signer, authority: Authority) -> None:
    """Whoever holds the signing key can write any date into a report; the authority does not."""
    path = bundle.write_bundle(
        tmp_path / "evidence",
        "prod",
        signer,
        lambda run_id, previous: record(make_run(previous, run_id)),
        {},
        stamp=lambda signature: authority.stamp(signature).response,
    )
    verify_bundle(path, [signer.public])
    for required in (True, False):
        with pytest.raises(VerificationError, match="2026-11-23T02:00:05Z") as caught:
            verify_bundle(path, [signer.public], time=TrustedTime(authority.roots, required=required))
        assert caught.value.reason == "timestamp-apart"


def test_without_a_required_timestamp_no_bundle_is_written(
    write: WriteBundle, tsa: Tsa, authority: Authority, tmp_path: Path
) -> None:
    tsa.mode = "error"
    with pytest.raises(EvidenceError):
        write(stamp=lambda signature: authority.stamp(signature).response)
    assert not list((tmp_path / "evidence" / "prod").glob("2*"))
