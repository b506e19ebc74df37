"""The prover accepts every safe spelling in cases.py, and none of the unsafe ones."""

import pytest

from tests.policy.cases import PROVEN, REFUSED
from tests.policy.conftest import Proofs

pytestmark = pytest.mark.xdist_group("policy")


@pytest.mark.parametrize("number", range(len(PROVEN)), ids=lambda n: PROVEN[n])
def test_safe_policy_is_proven(listed: Proofs, number: int) -> None:
    assert not listed.gaps(f"p{number}")


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=lambda n: REFUSED[n])
def test_unsafe_policy_is_refused(listed: Proofs, number: int) -> None:
    gaps = listed.gaps(f"r{number}")
    assert {gap.split()[0] for gap in gaps} == {"SELECT", "INSERT", "UPDATE", "DELETE"}
    assert all(gap.partition(": ")[2].strip(": ") for gap in gaps)
