"""Rows of tenants that a SECURITY DEFINER trigger reads or changes, and that are not provably its own row's tenant's.

A row counts as tied where the query asks that its tenant be that of NEW or OLD (or of a trusted expression, or of
another tied row), that it be the row itself, one that it references or that references it, by keys that carry the
tenant, or the caller's own membership. Everything else, and everything that cannot be read, is yielded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.dynamic import fixed_statement
from pytest_tenantproof.catalog.flow import has_alias, written
from pytest_tenantproof.catalog.model import Function, Table, Trigger
from pytest_tenantproof.catalog.names import quoted
from pytest_tenantproof.catalog.plpgsql import body_of
from pytest_tenantproof.catalog.recording import parsed
from pytest_tenantproof.catalog.tracing import Tracer
from pytest_tenantproof.controls._bound import is_caller_bound
from pytest_tenantproof.controls._owned import Item, Owned, Scope, Side
from pytest_tenantproof.controls._queries import (
    FROMS,
    columns,
    condition,
    equalities,
    expression,
    inferred,
    is_only_made,
    is_plain,
    is_unique,
    leaves,
    parts,
    shared,
    tables_of,
    target_of,
    texts_of,
    verb,
    without_queries,
)
from pytest_tenantproof.policy.parse import sql_text

__all__ = ["Judged", "Untied", "untied"]

_STATEMENTS = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_LEAVES = (ast.ColumnRef, ast.A_Const, ast.ParamRef, ast.TypeName, ast.String)
"""Most of a tree, and nothing is asked in them."""
_RUNS_TEXT = frozenset(
    {f"{kind}_to_xml" for kind in ("query", "cursor", "table", "schema", "database")}
    | {f"{kind}_to_xml_and_xmlschema" for kind in ("query", "table", "schema", "database")}
    | {"ts_stat", "ts_rewrite", "crosstab", "connectby", "xpath_table"}
)
_Join = tuple[Any, Sequence[Item] | None]
"""A condition, and the only items whose rows it limits (an outer join's)."""
_Asked = tuple[Side, Side, Sequence[Item] | None]
_Wanted = tuple[tuple[int, Side], ...]
Untied = tuple[Table | None, str]
Judged = dict[tuple[object, ...], Sequence[Untied]]
_Found = Iterator[Untied]


@dataclass(slots=True)
class _Reader(Owned):
    """Reads every statement of the function, and of those that it calls."""

    seen: set[tuple[str, ...]] = field(default_factory=set)
    met: list[str] = field(default_factory=list)
    """Tables of tenants that anything was asked of."""

    def run(self) -> _Found:
        """(table, what is done to its rows), or (None, what cannot be read)."""
        self.seen.add((self.function.signature, *sorted(self.own)))
        if self.function.language == "plpgsql":
            yield from self._plpgsql()
            return
        try:
            statements = [raw.stmt for raw in parse_sql(sql_text(self.function.body))]
        except ParseError:
            yield None, f"{self.function.signature} cannot be read"
            return
        for statement in statements:
            yield from self._visit(statement, ())

    def _plpgsql(self) -> _Found:
        body = body_of(self.function)
        if body is None:
            yield None, f"{self.function.signature} cannot be read"
            return
        targets = {None} if has_alias(self.function) else set(written(body.block))
        self.changed = None if None in targets else frozenset(t for t in targets if t)
        self.tracer = Tracer(self.function, self.transitions)
        rows = {
            name: Item(self.table, tied=self.changed is not None, certain=name == "old" or not self.before)
            for name in ("new", "old")
        }
        self.rows = (rows,) if self.function.returns == "trigger" else ()
        declared = (*(f"SELECT {text}" for _, text in body.defaults), *body.cursors)
        for text, used in (*texts_of(body.block), *((text, None) for text in declared)):
            statement = parsed(text) if used is None else fixed_statement(text)
            if statement is None:
                what = "has a statement that cannot be read" if used is None else "runs SQL made at run time"
                yield None, f"{self.function.signature} {what}"
            self.used = None if used is None else tuple(expression(each) for each in used)
            yield from self._visit(statement, self.rows)
        self.used = None

    def _visit(self, node: Any, scope: Scope) -> _Found:
        """Every statement in a tree, with the FROM items around it."""
        if isinstance(node, tuple):
            for item in node:
                yield from self._visit(item, scope)
        elif isinstance(node, _STATEMENTS):
            yield from self._statement(node, scope)
        elif isinstance(node, ast.Node) and not isinstance(node, _LEAVES):
            if isinstance(node, ast.TruncateStmt | ast.CopyStmt):
                yield from self._whole(node)
            if isinstance(node, ast.FuncCall):
                yield from self._call(node, scope)
            for name in node:
                value = getattr(node, name)
                if isinstance(value, tuple | ast.Node):
                    yield from self._visit(value, scope)

    def _whole(self, node: Any) -> _Found:
        """TRUNCATE and COPY, which ask for nothing."""
        for item in node.relations if isinstance(node, ast.TruncateStmt) else [node.relation] if node.relation else []:
            table = self.relation(item, ()).table
            if table and self.is_watched(table, doing=True):
                yield table, f"runs {type(node).__name__.removesuffix('Stmt').upper()} on"

    def _statement(self, node: Any, scope: Scope, wanted: _Wanted = ()) -> _Found:
        """`wanted`: what is asked of the statement's columns around it, by place."""
        if isinstance(node, ast.SelectStmt) and node.op != enums.SetOperation.SETOP_NONE:
            for arm in (node.larg, node.rarg):
                yield from self._statement(arm, scope, wanted)
            return
        level: dict[str, Item] = {}
        inner = (level, *scope)
        for cte in node.withClause.ctes if node.withClause else ():
            yield from self._visit(cte.ctequery, inner)
            level[f"with {cte.ctename}"] = Item(None, query=cte.ctequery, columns=columns(cte.ctequery))
        joins: list[_Join] = [(part, None) for part in parts(condition(node))]
        queries: list[tuple[Item, Any]] = []
        self._add(node, level, inner, joins, queries)
        equal = [(a, b, only) for part, only in joins for a, b in equalities(part)]
        asked: list[_Asked] = [((a, inner), (b, inner), only) for a, b, only in equal]
        if is_plain(node):
            asked += [((node.targetList[n].val, inner), side, None) for n, side in wanted if n < len(node.targetList)]
        self._tie(level, asked)
        for item, query in queries:
            around = inner if item.lateral else scope
            yield from self._statement(query.subquery, around, tuple(self._pushed(item, asked)))
        yield from self._left(node, level)
        yield from self._moved(node, inner)
        yield from self._rest(node, inner)

    def _left(self, node: Any, level: Mapping[str, Item]) -> _Found:
        """What the statement reads or changes without a tie."""
        doing, target = verb(node), target_of(node)
        for alias, item in level.items():
            changes = alias == target and doing != "reads"
            if item.table is None or not self.is_watched(item.table, doing=changes):
                continue
            self.met.append(item.table.name)
            if not item.tied:
                yield item.table, doing if changes else "reads"

    def _pushed(self, item: Item, asked: Sequence[_Asked]) -> Iterator[tuple[int, Side]]:
        """What a query's columns are asked to equal."""
        for left, right, only in asked:
            for one, other in ((left, right), (right, left)):
                found = self.column(*one)
                if found and found[0] is item and (only is None or item in only) and found[1] in item.columns:
                    yield item.columns[found[1]], other

    def _add(self, node: Any, level: dict[str, Item], scope: Scope, joins: list[_Join], queries: list[Any]) -> None:
        """The FROM items of a statement, what their joins ask, and the queries among them."""
        relation = None if isinstance(node, ast.InsertStmt) else getattr(node, "relation", None)
        listed = (*(getattr(node, "fromClause", None) or ()), *(getattr(node, "usingClause", None) or ()))
        for item in (relation, getattr(node, "sourceRelation", None), *listed):
            if item is not None:
                self._from(item, level, scope, joins, queries)

    def _from(
        self, item: Any, level: dict[str, Item], scope: Scope, joins: list[_Join], queries: list[Any]
    ) -> list[Item]:
        if isinstance(item, ast.JoinExpr):
            left = self._from(item.larg, level, scope, joins, queries)
            right = self._from(item.rarg, level, scope, joins, queries)
            limited = {"JOIN_INNER": None, "JOIN_LEFT": right, "JOIN_RIGHT": left}
            if item.jointype.name in limited:
                joins += [(part, limited[item.jointype.name]) for part in (*parts(item.quals), *shared(item))]
            return left + right
        item = item.relation if isinstance(item, ast.RangeTableSample) else item
        alias = item.alias.aliasname if getattr(item, "alias", None) else getattr(item, "relname", f"?{len(level)}")
        if isinstance(item, ast.RangeVar):
            level[alias] = self.relation(item, scope)
        elif isinstance(item, ast.RangeSubselect):
            level[alias] = Item(None, query=item.subquery, columns=columns(item.subquery), lateral=bool(item.lateral))
            queries.append((level[alias], item))
        else:
            level[alias] = Item(None)
        return [level[alias]]

    def _moved(self, node: Any, scope: Scope) -> _Found:
        """Rows whose tenant a statement sets (before a key is checked that would make it a fault), and that it inserts
        where nobody else looks."""
        if isinstance(node, ast.MergeStmt):
            yield self.relation(node.relation, ()).table, "merges into"
        if not isinstance(node, ast.UpdateStmt | ast.InsertStmt):
            return
        table = self.relation(node.relation, ()).table
        column = self.catalog.tenant_column(table) if table else None
        if table is None or not self.is_watched(table, doing=True):
            return
        self.met.append(table.name)
        clause = node.onConflictClause if isinstance(node, ast.InsertStmt) else None
        sets = (node if isinstance(node, ast.UpdateStmt) else clause and clause.targetList and clause) or None
        for target in (sets.targetList if sets is not None else ()) or ():
            if column and target.name == column.name:
                yield table, "moves"
        updates = clause if clause and clause.action == enums.OnConflictAction.ONCONFLICT_UPDATE else None
        if updates is not None and (column is None or column.name not in inferred(updates.infer, table)):
            yield table, "updates, ON CONFLICT,"
        if isinstance(node, ast.InsertStmt) and not self._is_inserted_own(node, table, scope):
            yield table, "inserts"

    def _is_inserted_own(self, node: Any, table: Table, scope: Scope) -> bool:
        names = [target.name for target in node.cols or ()] or [column.name for column in table.columns]
        column = self.catalog.tenant_column(table)
        select = node.selectStmt
        makes = self.catalog.kind(table) is Kind.REGISTRY and is_only_made(node)
        if column is not None and (makes or column.name not in names) and self.function.returns == "trigger":
            return True
        if column is None or column.name not in names or select is None:
            return False
        place = names.index(column.name)
        rows = [[t.val for t in leaf.targetList or ()] for leaf in leaves(select)] if not select.valuesLists else []
        rows += [list(row) for row in select.valuesLists or ()]
        tables = tables_of(select)
        return bool(rows) and all(
            place < len(row)
            and (self.is_own(row[place], scope) or self.is_read(row[place], tables) or self.is_made(row[place], select))
            for row in rows
        )

    def _rest(self, node: Any, scope: Scope) -> _Found:
        for name in node:
            value = getattr(node, name)
            if name in ("withClause", "larg", "rarg") or not isinstance(value, tuple | ast.Node):
                continue
            for item in value if isinstance(value, tuple) else (value,):
                yield from self._visit(without_queries(item) if name in FROMS else item, scope)

    def _call(self, node: Any, scope: Scope) -> _Found:
        """The functions of this database run with the trigger's rights."""
        parts_ = [part.sval for part in node.funcname]
        if parts_[-1] in _RUNS_TEXT or parts_[-1].startswith("dblink"):
            yield None, f"{self.function.signature} runs SQL made at run time"
        paths = [parts_] if len(parts_) > 1 else [[schema, *parts_] for schema in self.searched if schema]
        names = [".".join(map(quoted, path)) for path in paths]
        settings = self.catalog.settings
        trusted = (*self.trusted, *settings.trusted_user_expressions)
        names = [name for name in names if not any(f"{name}(" in text for text in trusted)]
        for called in (f for name in names for f in self.catalog.functions_by_name.get(name, ())):
            proven = called.security_definer and is_caller_bound(self.catalog, called)
            if called.extension or proven or called.language not in ("sql", "plpgsql"):
                continue
            own = {f"${n + 1}" for n, arg in enumerate(node.args or ()) if self.is_own(arg, scope)}
            own |= {called.argument_names[n] for n in range(len(called.argument_names)) if f"${n + 1}" in own}
            named_ = (arg for arg in node.args or () if isinstance(arg, ast.NamedArgExpr))
            own |= {arg.name for arg in named_ if self.is_own(arg.arg, scope)}
            if (called.signature, *sorted(own)) not in self.seen:
                found = _Reader(
                    self.catalog, self.table, called, {}, frozenset(own - {""}), seen=self.seen, met=self.met
                )
                yield from found.run()

    def _tie(self, level: dict[str, Item], asked: Sequence[tuple[Side, Side, Any]]) -> None:
        again = True
        while again:
            again = False
            for left, right, only in asked:
                for one, other in ((left, right), (right, left)):
                    found = self.column(*one)
                    if not found or found[0].tied or found[0] not in level.values():
                        continue
                    if (only is None or found[0] in only) and self._ties(found, other):
                        found[0].tied = again = True

    def _ties(self, found: tuple[Item, str], other: Side) -> bool:
        item, column = found
        if item.table is None:
            return False
        tenant = self.catalog.tenant_column(item.table)
        if tenant and column == tenant.name and self.is_own(*other):
            return True
        is_member = self.catalog.kind(item.table) is Kind.MEMBERSHIP
        user = self.catalog.user_column(item.table) if is_member else None
        if user and column == user.name and self.is_own_user(*other):
            return True
        origins = self.origins(*other)
        return bool(origins) and all(self._leads(item.table, column, *origin) for origin in origins)

    def _leads(self, table: Table, column: str, beside: Item, other: str) -> bool:
        """Whether rows that are equal in these columns are one tenant's."""
        catalog, leader = self.catalog, beside.table
        if not beside.tied or leader is None:
            return False
        if table.name == leader.name and column == other and is_unique(table, column):
            return beside.certain
        declared = (r for r in catalog.settings.references if r.column == f"{leader.name}.{other}")
        if any(table.name in r.to.values() for r in declared):
            return is_unique(table, column)
        if is_unique(table, column) and self.carries(leader, other, table, column):
            return True
        if not beside.certain:
            return False
        if is_unique(leader, other) and self.carries(table, column, leader, other):
            return True
        return bool(self.parents(table, column) & self.parents(leader, other))


def untied(catalog: Catalog, table: Table, trigger: Trigger, function: Function, judged: Judged) -> Sequence[Untied]:
    """(table, what is done) for each kind of row that is not provably the row's tenant's; (None, what) for what
    cannot be read. `judged` remembers what was found: of functions that have to do with no tenant's rows, for whatever
    table they serve."""
    named = {trigger.old_table: "old", trigger.new_table: "new"}
    transitions = {name: row for name, row in named.items() if name}
    before = trigger.timing == "BEFORE"
    key = (function.signature, table.name, before, *transitions.items())
    for known in ((function.signature,), key):
        if known in judged:
            return judged[known]
    met: list[str] = []
    found = tuple(dict.fromkeys(_Reader(catalog, table, function, transitions, before=before, met=met).run()))
    judged[key if found or met else (function.signature,)] = found
    return found
