"""Which rows should lead where: every reference that is or was declared between tables with tenants' rows."""

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_tenantproof.catalog import Catalog, Link

__all__ = ["Path", "paths"]

_DATES = ("now()", "clock_timestamp()", "CURRENT_TIMESTAMP")


@dataclass(frozen=True, slots=True)
class Path:
    """A reference: `pairs` find the parent, `same` (child, parent) columns must then agree: the tenant, and every
    other ancestor that both name. `since` is the child's column for new rows, "" where it has none."""

    child: str
    parent: str
    pairs: tuple[tuple[str, str], ...]
    same: tuple[tuple[str, str], ...]
    since: str


def paths(catalog: Catalog, declared: Catalog | None) -> tuple[Path, ...]:
    """References of the catalog and of the declared one: a dropped foreign key must not blind the canary."""
    found = {path: None for source in (declared, catalog) if source is not None for path in _paths(source, catalog)}
    return tuple(sorted(found, key=lambda path: (path.child, path.parent, path.pairs)))


def _paths(source: Catalog, catalog: Catalog) -> Iterator[Path]:
    for link in source.links:
        if not link.table.is_partition and link.table.name in catalog.tables and link.target.name in catalog.tables:
            yield _path(source, link, catalog)
    for table in source.tenant_tables:
        column = source.tenant_column(table)
        for key in source.registry_keys(table):
            if column is not None and key.columns == (column.name,) and not table.is_partition:
                since = _since(catalog, table.name)
                yield Path(table.name, key.target, tuple(zip(key.columns, key.target_columns, strict=True)), (), since)


def _path(source: Catalog, link: Link, catalog: Catalog) -> Path:
    """The last pair identifies the parent; those before it are ancestors that both rows carry."""
    pairs = tuple(zip(link.constraint.columns, link.constraint.target_columns, strict=True))
    own, parents = source.tenant_column(link.table), source.tenant_column(link.target)
    same = dict(pairs[:-1])
    if own is not None and parents is not None and own.name not in dict(pairs[-1:]):
        same.setdefault(own.name, parents.name)
    return Path(link.table.name, link.target.name, pairs[-1:], tuple(same.items()), _since(catalog, link.table.name))


def _since(catalog: Catalog, table: str) -> str:
    """The watermark column, where the database itself dates the rows by it: migrations/004 asks for the same."""
    name = catalog.settings.canary.watermark_column
    found = catalog.tables.get(table)
    column = found.column(name) if found and name else None
    dated = column is not None and column.type == "timestamp with time zone" and column.default in _DATES
    return name if dated else ""
