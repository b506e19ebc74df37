"""The policy prover on a catalog, made once for all controls."""

from functools import lru_cache

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.policy import Prover, World

__all__ = ["is_caller_bound", "prover"]


@lru_cache(maxsize=4)
def prover(catalog: Catalog) -> Prover:
    return Prover(World(catalog.snapshot, catalog.settings))


def is_caller_bound(catalog: Catalog, function: Function) -> bool:
    """Whether a SECURITY DEFINER function tells its caller about the caller alone, or is declared to be fine."""
    return function.signature in catalog.settings.exposed_functions or prover(catalog).is_caller_bound(function)
