"""What became of a run's alerts is part of its bundle, and as little to be changed as the rest of it."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pytest_tenantproof.attest import bundle, dsse
from pytest_tenantproof.attest.alerts import PAYLOAD_TYPE, check_alerts, write_alerts
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.attest.strictjson import canonical, load
from pytest_tenantproof.attest.verify import verify_bundle
from pytest_tenantproof.errors import EvidenceError, VerificationError
from tests.attest.conftest import WriteBundle
from tests.attest.support import reason_of

NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
FAILED = {"channel": "Slack", "alert": "prod: failed", "at": "2026-11-25T03:00:00Z", "problem": "status 500"}


def kept(path: Path, signer: Signer) -> tuple[object, ...]:
    names = (bundle.STATEMENT_FILE, bundle.ALERTS_FILE)
    files = {name: (path / name).read_bytes() for name in names if (path / name).exists()}
    return check_alerts(files, {signer.key_id: signer.public}, signer.key_id)


def test_a_failed_alert_is_recorded_and_the_bundle_still_verifies(write: WriteBundle, signer: Signer) -> None:
    path = write()
    assert kept(path, signer) == ()
    write_alerts(path, [FAILED], signer, NOW)
    assert kept(path, signer) == (FAILED,)
    verify_bundle(path, [signer.public])
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".part")] == []


def test_any_changed_byte_of_it_is_noticed(write: WriteBundle, signer: Signer) -> None:
    path = write()
    write_alerts(path, [FAILED], signer, NOW)
    file = path / bundle.ALERTS_FILE
    data = file.read_bytes()
    generator = random.Random(20261125)
    told = set()
    for _ in range(300):
        at = generator.randrange(len(data))
        file.write_bytes(data[:at] + bytes([data[at] ^ (1 << generator.randrange(8))]) + data[at + 1 :])
        told.add(reason_of(lambda: verify_bundle(path, [signer.public])))
    assert told == {"envelope-malformed", "json-malformed", "signature-invalid", "key-unknown", "payload-type"}


def test_a_record_of_another_bundle_or_by_another_key_is_refused(write: WriteBundle, signer: Signer) -> None:
    first, second = write(), write()
    write_alerts(first, [FAILED], signer, NOW)
    record = (first / bundle.ALERTS_FILE).read_bytes()
    (second / bundle.ALERTS_FILE).write_bytes(record)
    with pytest.raises(VerificationError) as caught:
        verify_bundle(second, [signer.public])
    assert caught.value.reason == "alerts-mismatch"
    other = Signer(new_seed())
    write_alerts(second, [FAILED], other, NOW)
    for trusted, reason in (([signer.public], "key-unknown"), ([signer.public, other.public], "alerts-mismatch")):
        with pytest.raises(VerificationError) as caught:
            verify_bundle(second, trusted)
        assert caught.value.reason == reason


@pytest.mark.parametrize("deliveries", [None, {}, [1], [{**FAILED, "more": "x"}], [{**FAILED, "at": 1}]])
def test_a_misshapen_record_is_refused(write: WriteBundle, signer: Signer, deliveries: object) -> None:
    path = write()
    write_alerts(path, [], signer, NOW)
    payload = load(
        dsse.open_envelope(
            (path / bundle.ALERTS_FILE).read_bytes(), {signer.key_id: signer.public}, PAYLOAD_TYPE
        ).payload,
        "it",
    )
    (path / bundle.ALERTS_FILE).write_bytes(
        dsse.envelope(canonical(payload | {"deliveries": deliveries}), signer, PAYLOAD_TYPE)
    )
    with pytest.raises(VerificationError) as caught:
        verify_bundle(path, [signer.public])
    assert caught.value.reason == "alerts-malformed"


def test_the_statement_cannot_stand_in_for_it(write: WriteBundle, signer: Signer) -> None:
    path = write()
    (path / bundle.ALERTS_FILE).write_bytes((path / bundle.STATEMENT_FILE).read_bytes())
    with pytest.raises(VerificationError) as caught:
        verify_bundle(path, [signer.public])
    assert caught.value.reason == "payload-type"


def test_a_folder_that_cannot_be_written_is_an_error(write: WriteBundle, signer: Signer) -> None:
    path = write()
    (path / bundle.ALERTS_FILE).mkdir()
    with pytest.raises(EvidenceError, match="could not be written"):
        write_alerts(path, [FAILED], signer, NOW)
