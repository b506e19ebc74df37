"""Policy expressions -> are the rows provably the caller's own tenant's? What is not understood is not."""

from pytest_tenantproof.policy.laundering import laundered
from pytest_tenantproof.policy.proof import COMMANDS, Gap, Prover
from pytest_tenantproof.policy.world import World

__all__ = ["COMMANDS", "Gap", "Prover", "World", "laundered"]
