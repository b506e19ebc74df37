"""The policy prover on a catalog, made once for all controls."""

from functools import lru_cache

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function, Table
from pytest_tenantproof.policy import Prover, World

__all__ = ["is_caller_bound", "prover", "writers"]


@lru_cache(maxsize=4)
def prover(catalog: Catalog) -> Prover:
    return Prover(World(catalog.snapshot, catalog.settings))


def is_caller_bound(catalog: Catalog, function: Function) -> bool:
    """Whether a SECURITY DEFINER function tells its caller about the caller alone, or is declared to be fine."""
    return function.signature in catalog.settings.exposed_functions or prover(catalog).is_caller_bound(function)


def writers(catalog: Catalog, table: Table, column: str) -> list[str]:
    """Client, service and scoped roles that may update the tenant column."""
    s = catalog.settings
    root = catalog.root_of(table)
    grants = [*table.grants, *(g for c in table.columns if c.name == column for g in c.grants)]
    grants += root.grants if root is not table else ()
    grants = [grant for grant in grants if grant.privilege == "UPDATE"]
    roles = (*catalog.client_roles, *s.service_roles, *s.scoped_roles)
    return [role for role in roles if catalog.usable(table.schema, role) and catalog.graph.granted(grants, role)]
