"""What the tests of verification share."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.attest import keys, policy
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.errors import VerificationError

NOW = datetime.now(UTC)
Change = Callable[[dict[str, Any]], None]
WriteProven = Callable[..., Path]


def reason_of(call: Callable[[], object]) -> str:
    """The reason code of the refusal that a call ends in."""
    with pytest.raises(VerificationError) as caught:
        call()
    assert caught.value.message
    return caught.value.reason


def document(signer: Signer, **change: Any) -> bytes:
    key = {
        "pem": keys.public_pem(signer.public),
        "not_before": "2020-01-01T00:00:00Z",
        "not_after": "2099-01-01T00:00:00Z",
    }
    held = {
        "schema": "tenantproof/policy/1",
        "name": "deploys",
        "keys": [key],
        "targets": ["prod"],
        "max_age_hours": 24,
    }
    return json.dumps(held | change).encode()


def reasons(tmp_path: Path, given: bytes, now: datetime = NOW, *, roots: Path | None = None) -> str:
    """Everything that a policy has against the evidence in tmp_path; "" accepts it."""
    return "; ".join(policy.decide(policy.parse_policy(given), tmp_path / "evidence", now, roots=roots).reasons)
