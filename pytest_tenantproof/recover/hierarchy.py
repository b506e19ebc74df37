"""Which table hangs below which: from foreign keys, the config, and names where a schema declares neither."""

from dataclasses import dataclass

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.catalog.names import singular
from pytest_tenantproof.errors import CatalogError

__all__ = ["Level", "Parent", "hierarchy"]


@dataclass(frozen=True, slots=True)
class Parent:
    """A reference: `column` of the child holds `key` of `table`."""

    column: str
    table: str
    key: str


@dataclass(frozen=True, slots=True)
class Level:
    """A tenant table. `parents` are those of its own hierarchy, the nearest (deepest) first."""

    table: str
    tenant: str
    parents: tuple[Parent, ...]
    users: tuple[Parent, ...]
    depth: int


def hierarchy(catalog: Catalog) -> tuple[Level, ...]:
    """Tenant tables, parents before children. Raises CatalogError for references that go in a circle."""
    tables = {t.name: t for t in catalog.tenant_tables if not t.is_partition}
    links = {name: _links(catalog, table, tables) for name, table in tables.items()}
    depths: dict[str, int] = {}
    while len(depths) < len(tables):
        ready = [name for name in tables if name not in depths and all(p.table in depths for p in links[name])]
        if not ready:
            left = ", ".join(sorted(set(tables) - depths.keys()))
            raise CatalogError(f"references go in a circle: {left}.", remedy="recover these tables by hand.")
        depths |= {name: 1 + max((depths[p.table] for p in links[name]), default=0) for name in ready}
    levels = []
    for name in sorted(tables, key=lambda name: (depths[name], name)):
        tenant = catalog.tenant_column(tables[name])
        parents = sorted(links[name], key=lambda p: (-depths[p.table], p.column))
        users = _users(catalog, tables[name])
        levels.append(Level(name, tenant.name if tenant else "", tuple(parents), users, depths[name]))
    return tuple(levels)


def _links(catalog: Catalog, table: Table, tables: dict[str, Table]) -> list[Parent]:
    own = catalog.tenant_column(table)
    found: dict[str, Parent] = {}
    for name, other in tables.items():
        key = _key(other)
        if key and name != table.name:
            named = f"{singular(name.rpartition('.')[2])}_id"
            if other.schema == table.schema and table.column(named):
                found[named] = Parent(named, name, key)
    for reference in catalog.settings.references:
        holder, _, column = reference.column.rpartition(".")
        target = reference.to.get("*", "")
        if holder == table.name and target in tables and (key := _key(tables[target])):
            found[column] = Parent(column, target, key)
    for key_ in table.constraints:
        if key_.kind == "foreign" and key_.target in tables and key_.target != table.name:
            column, key = key_.columns[-1], key_.target_columns[-1]
            found[column] = Parent(column, key_.target, key)
    return [parent for column, parent in found.items() if own is None or column != own.name]


def _key(table: Table) -> str:
    primary = next((c.columns for c in table.constraints if c.kind == "primary"), ())
    return primary[0] if len(primary) == 1 else ""


def _users(catalog: Catalog, table: Table) -> tuple[Parent, ...]:
    s = catalog.settings
    user = catalog.user_column(table)
    if table.name not in s.membership_tables or user is None:
        return ()
    users = (catalog.tables.get(name) for name in s.user_tables)
    return tuple(Parent(user.name, u.name, _key(u)) for u in users if u and _key(u))
