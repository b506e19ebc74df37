"""Whose tenant an expression in a trigger's statement is, by what is known of the rows around it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pglast import ast, enums
from pglast.stream import RawStream

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.evaluate import ROW_TO_JSON, keeps_apart, plain_name
from pytest_tenantproof.catalog.expressions import same_expression
from pytest_tenantproof.catalog.model import Function, Table
from pytest_tenantproof.catalog.names import quoted
from pytest_tenantproof.catalog.tracing import Tracer, returned, returning
from pytest_tenantproof.controls._queries import is_only_made, is_unique, leaves, names_of, pairs, tables_of

__all__ = ["Item", "Owned", "Scope", "Side"]

_EXACT = ("uuid", "int2", "int4", "int8", "numeric")


@dataclass(slots=True, eq=False)
class Item:
    """A FROM item: rows of a table, of a query, or of whatever else. `columns` are a query's: their places by name."""

    table: Table | None
    tied: bool = False
    query: Any = None
    columns: Mapping[str, int] = field(default_factory=dict)
    lateral: bool = False
    certain: bool = True
    """Whether it is stored: NEW before the write may have the key of somebody else's row."""


Scope = tuple[dict[str, Item], ...]
Side = tuple[Any, Scope]
Origin = tuple[Item, str]
_RANDOM = frozenset({"gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v4"})


@dataclass(slots=True)
class Owned:
    """One function, called for the rows of `table`. `own` are its parameters that hold the row's tenant; `changed` is
    what it writes to, None where that may be anything."""

    catalog: Catalog
    table: Table
    function: Function
    transitions: Mapping[str, str]
    own: frozenset[str] = frozenset()
    changed: frozenset[tuple[str, str]] | None = frozenset()
    tracer: Tracer | None = None
    before: bool = False
    """Whether it runs before the write."""
    rows: Scope = ()
    """NEW and OLD, where they are known."""
    used: tuple[Any, ...] | None = None
    """What $1, $2, ... are in the statement that is read, where that is an EXECUTE's."""

    @property
    def trusted(self) -> tuple[str, ...]:
        return tuple(self.catalog.settings.trusted_tenant_expressions)

    @property
    def searched(self) -> tuple[str, ...]:
        """Schemas where a name without one may be found."""
        path = (self.function.setting("search_path") or "").replace('"', "").split(",")
        return (*(schema.strip() for schema in path), *self.catalog.settings.schemas)

    def relation(self, item: Any, scope: Scope) -> Item:
        if not item.schemaname:
            for level in scope:
                if f"with {item.relname}" in level:
                    return level[f"with {item.relname}"]
            if item.relname in self.transitions:
                return Item(self.table, tied=True)
        schemas = (item.schemaname,) if item.schemaname else self.searched
        names = (f"{quoted(schema)}.{quoted(item.relname)}" for schema in schemas if schema)
        return Item(next((self.catalog.tables[name] for name in names if name in self.catalog.tables), None))

    def _is_named(self, item: Any) -> bool:
        """Whether a name is no CTE's."""
        return bool(item.schemaname) or item.relname in self.transitions

    def is_watched(self, table: Table, *, doing: bool) -> bool:
        """Whether its rows are tenants'. The registry's may be read, not changed."""
        kinds = {Kind.TENANT, Kind.MEMBERSHIP, Kind.CHILD} | ({Kind.REGISTRY} if doing else set())
        names = self.catalog.reads(table) if table.kind in ("view", "matview") else (table.name,)
        return any(self.catalog.kind_of(name) in kinds for name in names)

    def column(self, node: Any, scope: Scope) -> tuple[Item, str] | None:
        """The FROM item, NEW or OLD whose column an expression is. A cast that makes two values one is none of it."""
        while isinstance(node, ast.TypeCast) and keeps_apart(node, _EXACT):
            node = node.arg
        names = names_of(node)
        if len(names) == 2:
            item = next((level[names[0]] for level in scope if names[0] in level), None)
            changed = names[0] in ("new", "old") and self._is_changed(names[0], names[1])
            return None if item is None or changed else (item, names[1])
        for level in scope if len(names) == 1 else ():
            plain = (i for alias, i in level.items() if alias not in ("new", "old") and not alias.startswith("with "))
            holders = [i for i in plain if names[0] in i.columns or (i.table and i.table.column(names[0]))]
            if holders:
                return (holders[0], names[0]) if len(holders) == 1 else None
        return None

    def is_own_user(self, node: Any, scope: Scope) -> bool:
        found = self.column(node, scope)
        if found and found[0].tied and found[0].table and self.catalog.kind(found[0].table) is Kind.USER:
            user = self.catalog.user_column(found[0].table)
            return user is not None and user.name == found[1]
        return _is_any(node, self.catalog.settings.trusted_user_expressions)

    def is_own(self, node: Any, scope: Scope, seen: frozenset[str] = frozenset()) -> bool:
        """Whether an expression is the tenant of the row, of another tied one, or a trusted one."""
        while isinstance(node, ast.TypeCast) and not _is_any(node, self.trusted):
            node = node.arg
        match node:
            case ast.CoalesceExpr() | ast.CaseExpr():
                return all(self.is_own(arg, scope, seen) for arg in _results(node))
            case ast.ParamRef():
                if self.used is None:
                    return f"${node.number}" in self.own
                given = self.used[node.number - 1] if 0 < node.number <= len(self.used) else None
                return replace(self, used=None).is_own(given, self.rows, seen)
            case ast.A_Expr() if node.name[-1].sval == "->>":
                return self._is_field(node)
            case ast.SubLink(subLinkType=enums.SubLinkType.EXPR_SUBLINK) if not _is_any(node, self.trusted):
                targets = node.subselect.targetList or ()
                return len(targets) == 1 and self._is_tenant_of(node.subselect, 0)
        if _is_any(node, self.trusted):
            return True
        found = self.column(node, scope)
        if found is None:
            return self._is_variable(names_of(node), seen)
        if found[0].query is not None:
            return self._is_tenant_of(found[0].query, found[0].columns.get(found[1], -1))
        return found[0].tied and self._is_tenant(found)

    def origins(self, node: Any, scope: Scope, seen: frozenset[str] = frozenset()) -> list[Origin]:
        """The columns that an expression's value comes from, of whatever rows; none where it may be anything else."""
        while isinstance(node, ast.TypeCast):
            node = node.arg
        if isinstance(node, ast.CoalesceExpr | ast.CaseExpr):
            return _joined(self.origins(arg, scope, seen) for arg in _results(node))
        if isinstance(node, ast.SubLink) and node.subLinkType == enums.SubLinkType.EXPR_SUBLINK:
            shown: Any = ((leaf.targetList or (), tables_of(leaf)) for leaf in leaves(node.subselect))
            return _joined(self._shown(t[0].val, items, scope) if len(t) == 1 else [] for t, items in shown)
        if isinstance(node, ast.ParamRef) and self.used and 0 < node.number <= len(self.used):
            return replace(self, used=None).origins(self.used[node.number - 1], self.rows, seen)
        found = self.column(node, scope)
        if found is not None:
            return [found]
        names = names_of(node)
        if not names or names[0] in seen:
            return []
        deeper = seen | {names[0]}
        return _joined(self._assigned(v, items, names[1:], deeper) for _, v, items in self._held(names))

    def _assigned(self, value: Any, items: Mapping[str, Any], of: list[str], seen: frozenset[str]) -> list[Origin]:
        if items:
            return self._shown(*_field(value, items, of), self.rows)
        if of and self.rows and (rows := _rows(value)):
            return [] if any(self._is_changed(row, of[0]) for row in rows) else [(self.rows[0][r], of[0]) for r in rows]
        return self.origins(value, self.rows, seen)

    def _shown(self, value: Any, items: Mapping[str, Any], scope: Scope) -> list[Origin]:
        """The column of the tables read that an expression is. Where they are not tied, they are reported."""
        named = {a: i for a, i in items.items() if isinstance(i, ast.RangeVar) and self._is_named(i)}
        level = {alias: self.relation(item, ()) for alias, item in named.items()}
        found = self.column(value, (level, *scope)) if len(level) == len(items) else None
        if (
            found is None
            or found[0].table is None
            or not (found[0].tied or self.is_watched(found[0].table, doing=False))
        ):
            return []
        return [(Item(found[0].table, tied=True, certain=found[0].certain), found[1])]

    def is_made(self, value: Any, select: Any) -> bool:
        """Whether a value that is inserted is the tenant of NEW or OLD, a trusted expression, or a tenant that the
        function has just made."""
        if self.function.returns != "trigger" or self.tracer is None or self.changed is None or self.used is not None:
            return False
        own = self.catalog.tenant_column(self.table)
        fine = {f"{row}.{own.name}" for row in ("new", "old") if not self._is_changed(row, own.name)} if own else set()
        origin = self.tracer.origin(value, select)
        return origin.columns <= fine and all(_is_new(self.catalog, e) or _is_any(e, self.trusted) for e in origin.ends)

    def _is_changed(self, row: str, column: str) -> bool:
        return self.changed is None or bool({(row, ""), (row, column)} & self.changed)

    def carries(self, table: Table, column: str, target: Table, key: str) -> bool:
        """Whether a foreign key pairs the columns, and the tenants where both tables have one."""
        own, its = self.catalog.tenant_column(table), self.catalog.tenant_column(target)
        return any(
            pairs.get(column) == key and (own is None or its is None or pairs.get(own.name) == its.name)
            for pairs in (pairs(c) for c in table.constraints if c.target == target.name and self.catalog.holds(c))
        )

    def parents(self, table: Table, column: str) -> set[tuple[str, str]]:
        """The keys, unique by themselves, that a column refers to within the tenant: rows with one parent are one's."""
        found = ((self.catalog.tables.get(c.target), pairs(c).get(column)) for c in table.constraints if c.target)
        return {
            (parent.name, key)
            for parent, key in found
            if parent and key and is_unique(parent, key) and self._has_tenants(table, parent)
            if self.carries(table, column, parent, key)
        }

    def _has_tenants(self, *tables: Table) -> bool:
        return all(self.catalog.tenant_column(table) is not None for table in tables)

    def _is_tenant(self, found: tuple[Item, str]) -> bool:
        column = self.catalog.tenant_column(found[0].table) if found[0].table else None
        return column is not None and column.name == found[1]

    def _is_tenant_of(self, query: Any, place: int) -> bool:
        """Whether a query's column is the tenant of rows that are tied, or reported."""
        return bool(leaves(query)) and all(self._shows(leaf, place) for leaf in leaves(query))

    def _shows(self, select: Any, place: int) -> bool:
        targets = select.targetList or ()
        return 0 <= place < len(targets) and self.is_read(targets[place].val, tables_of(select))

    def is_read(self, value: Any, items: Mapping[str, Any]) -> bool:
        """Whether an expression is the tenant of one of the tables that are read."""
        named = {a: i for a, i in items.items() if isinstance(i, ast.RangeVar) and self._is_named(i)}
        level = {alias: self.relation(item, ()) for alias, item in named.items()}
        found = self.column(value, (level,))
        watched = found and found[0].table and (found[0].tied or self.is_watched(found[0].table, doing=False))
        return bool(found and watched and len(level) == len(items) and self._is_tenant(found))

    def _is_field(self, node: Any) -> bool:
        """`to_jsonb(new) ->> 'tenant_id'`, or of a variable that holds nothing else."""
        column = self.catalog.tenant_column(self.table)
        name = getattr(getattr(node.rexpr, "val", None), "sval", None)
        held = [node.lexpr]
        if len(names_of(node.lexpr)) == 1 and self.tracer and self.changed is not None:
            held = [value for _, value, _ in self.tracer.variables.get(names_of(node.lexpr)[0], ())]
        return bool(held) and column is not None and name == column.name and all(self._is_row(v) for v in held)

    def _is_row(self, node: Any) -> bool:
        called = (
            isinstance(node, ast.FuncCall) and plain_name(node.funcname) in ROW_TO_JSON and len(node.args or ()) == 1
        )
        names = names_of(node.args[0]) if called else []
        return names in (["new"], ["old"]) and not any(name == names[0] for name, _ in self.changed or ())

    def _is_variable(self, names: list[str], seen: frozenset[str]) -> bool:
        if len(names) == 2 and quoted(names[0]) == self.function.name.removeprefix(f"{quoted(self.function.schema)}."):
            names = names[1:]
        if not names or len(names) > 2 or names[0] in seen or self.changed is None:
            return False
        if names[0] in self.own and not any(name == names[0] for name, _ in self.changed):
            return len(names) == 1
        held, deeper = self._held(names), seen | {names[0]}
        return bool(held) and all(self._is_held(value, items, names[1:], deeper) for _, value, items in held)

    def _held(self, names: list[str]) -> list[Any]:
        """Everything that is assigned to a variable, or to (a field of) a record."""
        if self.tracer is None or self.changed is None or names[0] in self.function.argument_names:
            return []
        held = list(self.tracer.variables.get(names[0], ()))
        if len(names) == 2:
            held = [
                h
                for h in held
                if h[1] is None or not h[2] or names[1] in (h[0], *names_of(h[1])[-1:]) or _is_star(h[1])
            ]
            held += self.tracer.variables.get(".".join(names), ())
        return held

    def _is_held(self, value: Any, items: Mapping[str, Any], of: list[str], seen: frozenset[str]) -> bool:
        """Whether what was assigned is the row's tenant, or that of rows which are tied, or reported."""
        if isinstance(value, ast.InsertStmt):
            return _is_new(self.catalog, returned(value, of[0]) if of else value)
        if of and not items and (sides := _rows(value)):
            own = self.catalog.tenant_column(self.table)
            return own is not None and own.name == of[0] and not any(self._is_changed(row, own.name) for row in sides)
        value, items = _field(value, items, of)
        if items and names_of(value) and names_of(value)[0] not in ("new", "old"):
            return self.is_read(value, items)
        rows = {name: Item(self.table, tied=True) for name in ("new", "old")}
        return self.is_own(value, (rows,) if self.function.returns == "trigger" else (), seen)


def _field(value: Any, items: Mapping[str, Any], of: list[str]) -> tuple[Any, Mapping[str, Any]]:
    """What a field of a record holds that `*` was read into."""
    if _is_star(value):
        value = ast.ColumnRef(fields=(ast.String(sval=of[0]),)) if of and len(items) == 1 else None
    return value, items


def _rows(node: Any) -> set[str]:
    """Which of NEW and OLD an expression is; none where it may be anything else."""
    if isinstance(node, ast.CoalesceExpr | ast.CaseExpr):
        parts = [_rows(arg) for arg in _results(node)]
        return set().union(*parts) if all(parts) else set()
    names = names_of(node)
    return {names[0]} if names in (["new"], ["old"]) else set()


def _results(node: Any) -> list[Any]:
    """What COALESCE and CASE may give, but for NULL, which equals nothing."""
    given = node.args if isinstance(node, ast.CoalesceExpr) else (*(when.result for when in node.args), node.defresult)
    return [each for each in given if each is not None and not (isinstance(each, ast.A_Const) and each.isnull)]


def _joined(parts: Iterator[list[Origin]]) -> list[Origin]:
    """All of them; none where one is not known."""
    found = list(parts)
    return [each for part in found for each in part] if all(found) else []


def _is_new(catalog: Catalog, end: Any) -> bool:
    """Whether a value is a key that nobody has yet: a random one, or that of a tenant inserted right here."""
    if isinstance(end, ast.InsertStmt):
        registry = catalog.tables.get(f"{end.relation.schemaname}.{end.relation.relname}")
        column = catalog.tenant_column(registry) if registry and catalog.kind(registry) is Kind.REGISTRY else None
        names = [names_of(target.val)[-1:] for target in returning(end)]
        return column is not None and names == [[column.name]] and is_only_made(end)
    return isinstance(end, ast.FuncCall) and end.funcname[-1].sval in _RANDOM


def _is_any(node: Any, texts: Sequence[str]) -> bool:
    if not isinstance(node, ast.Node):
        return False
    written = RawStream()(node)
    return any(same_expression(written, text) for text in texts)


def _is_star(node: Any) -> bool:
    return isinstance(node, ast.ColumnRef) and isinstance(node.fields[-1], ast.A_Star)
