"""What became of a run's alerts, in its bundle: written after the bundle, because an alert names its digest.

`statement.alerts.jsonl` is a DSSE envelope over the digest of the bundle's statement and a line a delivery. Whoever
verifies the bundle verifies it, where it is there; that it was removed shows nowhere.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest import dsse
from pytest_tenantproof.attest.bundle import ALERTS_FILE, STATEMENT_FILE
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.attest.strictjson import canonical, load
from pytest_tenantproof.errors import EvidenceError, VerificationError

__all__ = ["PAYLOAD_TYPE", "check_alerts", "write_alerts"]

PAYLOAD_TYPE = "application/vnd.tenantproof.alerts+json"
_SCHEMA = "tenantproof/alerts/1"
_FIELDS = {"channel", "alert", "at", "problem"}


def write_alerts(bundle: Path, deliveries: Sequence[Mapping[str, str]], signer: Signer, now: datetime) -> None:
    """Adds the file. Each delivery has `channel`, `alert` (its title), `at`, and `problem`, "" when it arrived.

    Raises EvidenceError.
    """
    digest = hashlib.sha256((bundle / STATEMENT_FILE).read_bytes()).hexdigest()
    payload = {"schema": _SCHEMA, "statement_sha256": digest, "at": now.isoformat(), "deliveries": list(deliveries)}
    part = bundle.parent / f".part-alerts-{bundle.name}"
    try:
        with part.open("wb") as out:
            out.write(dsse.envelope(canonical(payload), signer, PAYLOAD_TYPE))
            out.flush()
            os.fsync(out.fileno())
        part.replace(bundle / ALERTS_FILE)
    except OSError as error:
        raise EvidenceError(
            f"what became of the alerts could not be written: {error.strerror}.",
            remedy="check free space and permissions of --evidence-dir.",
        ) from error


def check_alerts(files: Mapping[str, bytes], keys: Mapping[str, bytes], key_id: str) -> tuple[Mapping[str, str], ...]:
    """The deliveries, () without the file. It must be signed by the bundle's own key and name its statement.

    Raises VerificationError: alerts-malformed, alerts-mismatch, and those of an envelope.
    """
    if ALERTS_FILE not in files:
        return ()
    opened = dsse.open_envelope(files[ALERTS_FILE], keys, PAYLOAD_TYPE)
    parsed = load(opened.payload, "the record of alerts")
    digest = hashlib.sha256(files[STATEMENT_FILE]).hexdigest()
    if opened.key_id != key_id or parsed.get("statement_sha256") != digest:
        raise VerificationError("alerts-mismatch", "the record of alerts belongs to another bundle.")
    deliveries = parsed.get("deliveries")
    if parsed.get("schema") != _SCHEMA or not isinstance(deliveries, list) or not all(map(_whole, deliveries)):
        raise VerificationError("alerts-malformed", "the record of alerts is not as the tool writes it.")
    return tuple(deliveries)


def _whole(delivery: Any) -> bool:
    return (
        isinstance(delivery, dict) and set(delivery) == _FIELDS and all(isinstance(v, str) for v in delivery.values())
    )
