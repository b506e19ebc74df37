"""What to change in a row that a CHECK constraint refused: its text says what it wants."""

import itertools
from collections.abc import Iterator, Mapping

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Column, Constraint, Table
from pytest_tenantproof.probes.values import Values

__all__ = ["Solver"]


class Solver:
    """Proposes values; the server is the judge."""

    def __init__(self, catalog: Catalog, values: Values) -> None:
        self._catalog, self._values = catalog, values

    def violated(self, table: Table, error: psycopg.Error | None) -> Constraint | None:
        name = error.diag.constraint_name if isinstance(error, psycopg.errors.CheckViolation) else None
        everything = (*table.constraints, *(c for p in self._catalog.children_of(table) for c in p.constraints))
        return next((c for c in everything if c.name == name), None)

    def changes(self, table: Table, check: Constraint, forced: Mapping[str, str]) -> Iterator[dict[str, str]]:
        named = (table.column(name) for name in check.columns)
        columns = [c for c in named if c and c.name not in forced and not c.generated]
        options = [list(dict.fromkeys(self._options(c, check, forced))) for c in columns]
        for combination in itertools.product(*options):
            yield dict(zip((c.name for c in columns), combination, strict=True))

    def _options(self, column: Column, check: Constraint, forced: Mapping[str, str]) -> Iterator[str]:
        """For one column: what the check's text suggests, what other columns hold, any value, NULL."""
        for name, value in forced.items():
            if column.type.startswith(("text", "character")) and name in check.columns:
                yield f"({value}::text || '/tp')"
                yield f"{value}::text"
            elif name in check.columns:
                yield value
        suggested = self._values.solutions(check.definition, column.type)
        yield from (value for value in suggested if not (column.not_null and value.startswith("NULL")))
        yield from (self._values.fresh(column.type) for _ in range(2))
