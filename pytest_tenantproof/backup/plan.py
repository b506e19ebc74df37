"""Which tables a backup copies, in which order, and how each row's tenant is found."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib import resources
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.backup.manifest import tables_digest
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import BackupError

__all__ = ["BackupPlan", "PlannedTable", "read_plan"]

_WRITTEN_OTHERWISE = frozenset({"bpchar", "boolean", "inet"})
"""Types that COPY writes otherwise than a cast to text does: padded, as one letter, without the length of the net."""
_EXACT = "exact"
_LOOSE = "loose"
"""How a type's `=` tells its values apart (sql/tables.sql): as their text does, or not quite (1.0 = 1.00)."""


@dataclass(frozen=True, slots=True)
class PlannedTable:
    """A table to copy. `source` is its FROM item (alias t, with the parents that tell the tenant joined),
    `tenant` the SQL of the row's tenant ("" for a global table), `tenant_type` that expression's type.

    Where `tenant` is the text of a column whose own `=` takes more than that text for the same, `near` is that column
    and `near_type` its type, for the sake of its index. `tenant_from` says the same for people; `tenant_place` is
    where COPY's line has the tenant, -1 if nowhere; `indexed` means that a tenant's rows are found without reading
    the others', `walked` that the tenants are. `size` is in bytes, `heap` what of it a count reads; both are those of
    all `partitions` together.
    """

    name: str
    columns: tuple[str, ...]
    source: str
    tenant: str = ""
    tenant_type: str = ""
    tenant_from: str = ""
    near: str = ""
    near_type: str = ""
    tenant_place: int = -1
    indexed: bool = False
    walked: bool = False
    size: int = 0
    heap: int = 0
    partitions: int = 1

    @property
    def column_list(self) -> str:
        return ", ".join(f"t.{_quoted(column)}" for column in self.columns)


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """Tables in dependency order, and what is left out, with the reason."""

    tables: tuple[PlannedTable, ...]
    not_included: tuple[str, ...]

    @property
    def tables_sha256(self) -> str:
        return tables_digest([(t.name, t.columns) for t in self.tables])

    @property
    def shape(self) -> tuple[object, ...]:
        """All of it but the sizes, which change with every row."""
        return tuple((t.name, t.columns, t.source, t.tenant) for t in self.tables), self.not_included


@dataclass(frozen=True, slots=True)
class _Found:
    oid: int
    name: str
    plain: str
    kind: str
    columns: tuple[str, ...]
    types: dict[str, str]
    equality: dict[str, str]
    """By column: "exact", "loose" or "other"."""
    key: tuple[str, ...]
    led: frozenset[str]
    """Columns that lead an index."""
    sorted: frozenset[str]
    """Columns whose order an index keeps, as their type's own operators have it."""
    size: int
    heap: int
    partitions: int
    elsewhere: bool
    """Whether a partition of it is a foreign table."""

    @property
    def reference(self) -> str:
        """The FROM item: a plain table without its inheritance children, which are tables of their own."""
        return self.name if self.kind == "p" else f"ONLY {self.name}"


@dataclass(frozen=True, slots=True)
class _Key:
    table: int
    target: int
    columns: tuple[str, ...]
    target_columns: tuple[str, ...]


def read_plan(connection: psycopg.Connection[Any], settings: Settings) -> BackupPlan:
    """Two catalog queries -> the plan. Raises BackupError when there is nothing to back up."""
    found = [
        _Found(
            *(r[0], r[1], r[2], r[3], tuple(r[4]), r[5] or {}, r[6] or {}, tuple(r[7])),
            *(frozenset(r[8]), frozenset(r[9]), r[10], r[11], r[12], r[13]),
        )
        for r in connection.execute(_sql("tables")).fetchall()
    ]
    rows = connection.execute(_sql("references")).fetchall()
    keys = [_Key(r[0], r[1], tuple(r[3]), tuple(r[4])) for r in rows if r[0] != r[1]]
    kept, left_out = _sorted_out(found, settings)
    if not kept:
        raise BackupError("the database has no table to back up.", remedy="check the database name.")
    names = {table.oid: table for table in kept}
    ordered = _in_order(kept, [k for k in keys if k.table in names and k.target in names])
    finder = _TenantFinder(names, keys, settings)
    return BackupPlan(tuple(finder.planned(table) for table in ordered), tuple(left_out))


def _sql(name: str) -> bytes:
    return (resources.files("pytest_tenantproof.backup") / "sql" / f"{name}.sql").read_bytes()


def _sorted_out(found: list[_Found], settings: Settings) -> tuple[list[_Found], list[str]]:
    kept, left_out = [], []
    for table in found:
        if any(fnmatchcase(table.plain, pattern) for pattern in settings.backup.exclude_tables):
            left_out.append(f"{table.name}: excluded by configuration")
        elif table.kind == "f":
            left_out.append(f"{table.name}: a foreign table")
        elif not table.columns:
            left_out.append(f"{table.name}: it has no column to copy")
        else:
            kept.append(table)
    return kept, left_out


def _in_order(tables: list[_Found], keys: list[_Key]) -> list[_Found]:
    """Referenced tables first; in a cycle, the first name goes first."""
    waits: dict[int, set[int]] = {table.oid: set() for table in tables}
    for key in keys:
        waits[key.table].add(key.target)
    left, ordered = sorted(tables, key=lambda t: t.name), []
    while left:
        ready = next((t for t in left if not waits[t.oid]), left[0])
        left.remove(ready)
        ordered.append(ready)
        for targets in waits.values():
            targets.discard(ready.oid)
    return ordered


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


class _TenantFinder:
    """How the tenant of each table's rows is found: its own column, a configured expression, or a parent."""

    def __init__(self, tables: dict[int, _Found], keys: Iterable[_Key], settings: Settings) -> None:
        self.tables, self.keys, self.settings = tables, list(keys), settings
        self.derived = {d.table: d for d in settings.derived_tables}
        self.forced_global = {*settings.global_tables, *settings.user_tables}

    def column(self, table: _Found) -> str | None:
        if table.plain == self.settings.tenant_table:
            return table.key[0] if len(table.key) == 1 else ("id" if "id" in table.types else None)
        return next((c for c in self.settings.tenant_column if c in table.types), None)

    def planned(self, table: _Found) -> PlannedTable:
        plain = PlannedTable(
            table.name,
            table.columns,
            f"{table.reference} AS t",
            size=table.size,
            heap=table.heap,
            partitions=table.partitions,
        )
        if table.plain in self.forced_global:
            return plain
        if derived := self.derived.get(table.plain):
            return self._derived(plain, derived.tenant, derived.prefix)
        if column := self.column(table):
            equality = table.equality[column]
            told = table.types[column] not in _WRITTEN_OTHERWISE and equality in (_EXACT, _LOOSE)
            place = table.columns.index(column) if told and column in table.columns else -1
            walked = column in table.sorted and equality == _EXACT and not table.elsewhere
            found = replace(plain, tenant_place=place, indexed=column in table.led, walked=walked)
            return _by_column(found, table, "t", column, column)
        return self._through_parents(plain, table) or plain

    def _derived(self, plain: PlannedTable, expression: str, prefix: str) -> PlannedTable:
        tenant = f"({expression})::text"
        if prefix:
            literal = sql.Literal(prefix).as_string(None)
            tenant = f"CASE WHEN starts_with({tenant}, {literal}) THEN substr({tenant}, {len(prefix) + 1}) END"
        return _with(plain, tenant, "text", expression)

    def _through_parents(self, plain: PlannedTable, table: _Found) -> PlannedTable | None:
        """The shortest way over foreign keys to a table that knows its tenant."""
        ways: list[tuple[_Found, str, str, str, bool]] = [(table, "t", "", "", True)]
        seen = {table.oid}
        for current, alias, joins, path, quick in ways:
            for key in (k for k in self.keys if k.table == current.oid and k.target not in seen):
                parent = self.tables.get(key.target)
                if parent is None or parent.plain in self.forced_global:
                    continue
                seen.add(parent.oid)
                name = f"p{len(seen)}"
                pairs = zip(key.columns, key.target_columns, strict=True)
                on = " AND ".join(f"{name}.{_quoted(b)} = {alias}.{_quoted(a)}" for a, b in pairs)
                joined = f"{joins} LEFT JOIN {parent.reference} AS {name} ON {on}"
                way = f"{path}{', '.join(key.columns)} -> {parent.name} "
                led = quick and not current.led.isdisjoint(key.columns)
                if column := self.column(parent):
                    found = replace(plain, source=plain.source + joined, indexed=led and column in parent.led)
                    return _by_column(found, parent, name, column, way + column)
                ways.append((parent, name, joined, way, led))
        return None


def _by_column(planned: PlannedTable, table: _Found, alias: str, column: str, origin: str) -> PlannedTable:
    """A value that is written in two ways names two tenants, whatever the type's own equality says of it: a tenant's
    archive holds the rows that its name was read from, and no others."""
    tenant, equality = f"{alias}.{_quoted(column)}", table.equality[column]
    if equality == _EXACT:
        return _with(planned, tenant, table.types[column], origin)
    near = replace(planned, near=tenant, near_type=table.types[column])
    near = near if equality == _LOOSE else replace(planned, indexed=False)
    return _with(near, f'({tenant})::text COLLATE pg_catalog."C"', "text", origin)


def _with(table: PlannedTable, tenant: str, type_: str, origin: str) -> PlannedTable:
    return replace(table, tenant=tenant, tenant_type=type_, tenant_from=origin)
