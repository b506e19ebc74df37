"""INSERT statements for a row that a table may take: a clone first, then inventions that learn from refusals."""

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.config import DerivedTable
from pytest_tenantproof.probes.solving import Solver
from pytest_tenantproof.probes.values import Values, ident, literal

__all__ = ["Inserts", "returned"]

_ATTEMPTS = 80


class Inserts:
    """Proposes statements, one after the other. Whoever runs one says in `refused` why it failed."""

    def __init__(self, connection: psycopg.Connection[Any], catalog: Catalog) -> None:
        self._connection, self._catalog = connection, catalog
        self._values = Values(catalog.snapshot)
        self._solver = Solver(catalog, self._values)
        self._derived: dict[str, DerivedTable] = {d.table: d for d in catalog.settings.derived_tables}
        self.refused: psycopg.Error | None = None

    def statements(self, table: Table, tenant: str, forced: dict[str, str]) -> Iterator[str]:
        """A clone first, then inventions, each changed by what refused the last one."""
        derived = self._derived.get(table.name)
        powers = [self._powers(table), {}] if self._powers(table) else [{}]
        for more in self._derivations(table, tenant, derived) if derived else powers:
            held = forced | more
            yield self._clone(table, held)
            values = held | self._invented(table, held)
            yield self._insert(table, values)
            yield from self._solved(table, values, held)

    def _powers(self, table: Table) -> dict[str, str]:
        """What makes a member one who may do most: policies may let administrators alone see a table."""
        if self._catalog.kind(table) is not Kind.MEMBERSHIP:
            return {}
        checks = [c for c in table.constraints if c.kind == "check"]
        found = {}
        for column in table.columns:
            texts = [c.definition for c in checks if c.columns == (column.name,)]
            if value := self._values.power(column.type, texts):
                found[column.name] = value
        return found

    def _derivations(self, table: Table, tenant: str, derived: DerivedTable) -> Iterator[dict[str, str]]:
        names = [
            c for c in table.columns if re.search(rf"\b{re.escape(c.name)}\b", derived.tenant) and c.type == "text"
        ]
        constants = {name: self._constant(table, name) for name in derived.constant_columns if table.column(name)}
        for column in names:
            for text in (f"{derived.prefix}{tenant}/tp", f"{derived.prefix}{tenant}", f"tp/{tenant}/tp"):
                yield {column.name: literal(text), **{k: v for k, v in constants.items() if v}}

    def _constant(self, table: Table, name: str) -> str:
        """The constant that a policy compares the column with."""
        texts = (expression for policy in table.policies for expression in (policy.using, policy.check))
        found = (re.search(rf"\b{re.escape(name)}\b\)?(?:::text)?\s*=\s*'((?:[^']|'')*)'", text) for text in texts)
        constant = next((match[1] for match in found if match), "")
        if constant:
            self._shared_row_of_constant(table, name, constant)
        return literal(constant.replace("''", "'")) if constant else ""

    def _shared_row_of_constant(self, table: Table, name: str, constant: str) -> None:
        """Makes the row that a pinned foreign key (a bucket) leads to, where it is not there yet."""
        for key in table.constraints:
            if key.kind == "foreign" and key.columns == (name,) and key.target in self._catalog.tables:
                target = self._catalog.tables[key.target]
                forced = {key.target_columns[0]: f"'{constant}'"}
                values = forced | self._invented(target, forced)
                statement = f"{self._insert(target, values).rpartition(' RETURNING')[0]} ON CONFLICT DO NOTHING"
                with contextlib.suppress(psycopg.Error), self._connection.transaction():
                    self._connection.execute(statement.encode())

    def _invented(self, table: Table, forced: Mapping[str, str]) -> dict[str, str]:
        unique = {name for index in table.indexes if index.unique for name in index.columns}
        found = {}
        for column in table.columns:
            if column.name in forced or column.generated or column.identity:
                continue
            value = self._values.column(column, distinct=column.name in unique)
            if value is None and column.name in unique and not column.default:
                value = self._values.fresh(column.type, distinct=True)
            if value is not None:
                found[column.name] = value
        return found

    def _insert(self, table: Table, values: Mapping[str, str]) -> str:
        columns, given = ", ".join(map(ident, values)), ", ".join(values.values())
        body = f"({columns}) VALUES ({given})" if values else "DEFAULT VALUES"
        return f"INSERT INTO {table.name} {body} RETURNING {returned(table)}"

    def _clone(self, table: Table, forced: Mapping[str, str]) -> str:
        """A row that is there, with new keys: its content never leaves the server."""
        unique = {name for index in table.indexes if index.unique for name in index.columns}
        keyed = {name for c in table.constraints if c.kind == "foreign" for name in c.columns}
        picked = {}
        for column in table.columns:
            if column.generated or column.identity == "always":
                continue
            if column.name in forced:
                picked[column.name] = forced[column.name]
            elif column.name in keyed:
                picked[column.name] = "NULL"
            elif column.name in unique:
                picked[column.name] = (
                    column.default if "nextval" in column.default else self._values.fresh(column.type, distinct=True)
                )
            else:
                picked[column.name] = ident(column.name)
        columns, given = ", ".join(map(ident, picked)), ", ".join(picked.values())
        source = f"SELECT {given} FROM {table.name} LIMIT 1"
        return f"INSERT INTO {table.name} ({columns}) {source} RETURNING {returned(table)}"

    def _solved(self, table: Table, values: dict[str, str], forced: Mapping[str, str]) -> Iterator[str]:
        """Follows the constraints that refuse a row, one at a time, until the server takes it."""
        tried: set[str] = set()
        for _ in range(_ATTEMPTS):
            check = self._solver.violated(table, self.refused)
            if check is None or check.name in tried:
                return
            tried.add(check.name)
            for change in itertools.islice(self._solver.changes(table, check, forced), _ATTEMPTS):
                changed = values | change
                yield self._insert(table, changed)
                now = self._solver.violated(table, self.refused)
                if now is not None and now.name != check.name:
                    values = changed
                    break


def returned(table: Table) -> str:
    """Every column's text by name, so that children can point at the row."""
    names = ", ".join(literal(c.name) for c in table.columns)
    values = ", ".join(f"{ident(c.name)}::text" for c in table.columns)
    return f"json_object(ARRAY[{names}], ARRAY[{values}])"
