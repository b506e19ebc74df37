"""What the tests of verification share."""

from collections.abc import Callable

import pytest

from pytest_tenantproof.errors import VerificationError


def reason_of(call: Callable[[], object]) -> str:
    """The reason code of the refusal that a call ends in."""
    with pytest.raises(VerificationError) as caught:
        call()
    assert caught.value.message
    return caught.value.reason
