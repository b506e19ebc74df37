"""SELECTs -> which rows they read, and under what conditions a result row exists."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from pytest_tenantproof.policy.parse import calls
from pytest_tenantproof.policy.scope import Alts, Scope
from pytest_tenantproof.policy.terms import TRUE, Alt, Col, Dnf, Equal, NotUnderstood, both, given
from pytest_tenantproof.policy.values import values

if TYPE_CHECKING:
    from pytest_tenantproof.policy.evaluate import Evaluator

__all__ = ["Branch", "array_of", "branches", "column", "is_count"]

# Builtins that give one value for each row. Any other might be an aggregate, which turns many rows into one.
_PER_ROW = frozenset(
    [
        "current_setting",
        "lower",
        "upper",
        "btrim",
        "ltrim",
        "rtrim",
        "left",
        "right",
        "substr",
        "substring",
        "split_part",
        "string_to_array",
        "array_position",
        "array_length",
        "cardinality",
        "length",
        "unnest",
        "now",
        "jsonb_array_elements_text",
        "jsonb_array_elements",
        "json_array_elements_text",
        "jsonb_extract_path_text",
        "json_extract_path_text",
        "to_jsonb",
        "concat",
        "format",
        "abs",
        "regexp_replace",
        "replace",
        "date_trunc",
        "extract",
        "timezone",
        "age",
        "gen_random_uuid",
    ]
)


@dataclass(frozen=True, slots=True)
class Branch:
    """One arm of a (UNION of) SELECT: its output expressions, where they are read, and the row's condition."""

    targets: tuple[Any, ...]
    names: tuple[str, ...]
    scope: Scope
    where: Dnf
    collapses: bool = False


def branches(ev: "Evaluator", select: Any, outer: Scope, *, collapsed: bool = False) -> tuple[Branch, ...]:
    """Raises NotUnderstood for what is not modelled, and for aggregates unless `collapsed` allows them."""
    if not isinstance(select, ast.SelectStmt):
        raise NotUnderstood("a statement that is not a SELECT")
    if select.op != enums.SetOperation.SETOP_NONE:
        left = branches(ev, select.larg, _with(select, outer), collapsed=collapsed)
        if select.op != enums.SetOperation.SETOP_UNION:
            return left
        return (*left, *branches(ev, select.rarg, _with(select, outer), collapsed=collapsed))
    return (_branch(ev, select, outer, collapsed),)


def _with(select: Any, outer: Scope) -> Scope:
    scope = outer.inner()
    if select.withClause is not None:
        if select.withClause.recursive:
            raise NotUnderstood("a recursive query")
        for cte in select.withClause.ctes:
            scope.ctes[cte.ctename] = (cte, scope)
    return scope


def _branch(ev: "Evaluator", select: Any, outer: Scope, collapsed: bool) -> Branch:
    if select.valuesLists:
        raise NotUnderstood("a VALUES list")
    scope = _with(select, outer)
    conditions = [_source(ev, item, scope) for item in select.fromClause or ()]
    if select.whereClause is not None:
        conditions.append(ev.truth(select.whereClause, scope, sign=True))
    items = select.targetList or ()
    collapses = _collapses(ev, select)
    if collapses and not collapsed:
        raise NotUnderstood("an aggregate, which gives a row even where none matches")
    targets = tuple(item.val for item in items)
    named = tuple(item.name or _implied(item.val) for item in items)
    where = both(conditions)
    ev.selected(tuple(_rows(scope)), where)
    return Branch(targets or (ast.A_Const(isnull=True),), named, scope, where, collapses)


def _rows(scope: Scope) -> Iterator[int]:
    """The numbers of the tables' rows that a FROM clause reads."""
    for source in scope.sources.values():
        for alts in source.values():
            yield from (alt.term.alias for alt in alts if isinstance(alt.term, Col) and alt.term.alias)


def _collapses(ev: "Evaluator", select: Any) -> bool:
    """Whether there is a result row even where no row matches."""
    groups = select.groupClause or ()
    if any(isinstance(group, ast.GroupingSet) for group in groups):
        return True
    return not groups and (select.havingClause is not None or _aggregates(ev, select.targetList or ()))


def _implied(node: Any) -> str:
    """The name Postgres gives an output column without AS."""
    if isinstance(node, ast.ColumnRef) and isinstance(node.fields[-1], ast.String):
        return str(node.fields[-1].sval)
    if isinstance(node, ast.FuncCall):
        return str(node.funcname[-1].sval)
    return _implied(node.arg) if isinstance(node, ast.TypeCast) else "?column?"


def _aggregates(ev: "Evaluator", items: Iterable[Any]) -> bool:
    found = (name for item in items for name, _ in calls(item))
    return any(_may_aggregate(ev, name) for name in found)


def _may_aggregate(ev: "Evaluator", name: tuple[str, ...]) -> bool:
    if name[0] == "pg_catalog":
        name = name[1:]
    if len(name) == 1:
        return name[0] not in _PER_ROW
    return ev.world.aggregate(name) or not ev.world.known(name)


def _source(ev: "Evaluator", item: Any, scope: Scope) -> Dnf:
    """Adds a FROM item to the scope and returns what holds for it."""
    match item:
        case ast.RangeVar():
            return _table(ev, item, scope)
        case ast.JoinExpr():
            return _join(ev, item, scope)
        case ast.RangeSubselect():
            return _derived(ev, item.subquery, item.alias, scope, scope.inner())
        case ast.RangeFunction():
            return _function(ev, item, scope)
        case _:
            raise NotUnderstood(f"{type(item).__name__} in FROM")


def _table(ev: "Evaluator", item: Any, scope: Scope) -> Dnf:
    alias = item.alias.aliasname if item.alias else item.relname
    if not item.schemaname and item.relname in scope.ctes:
        cte, defined = scope.ctes[item.relname]
        named = ast.Alias(aliasname=alias, colnames=cte.aliascolnames)
        return _derived(ev, cte.ctequery, named, scope, defined.inner())
    name = (item.schemaname, item.relname) if item.schemaname else (item.relname,)
    table = ev.world.table(name, scope.path)
    if table is None or table.kind not in ("table", "partitioned"):
        raise NotUnderstood(f"{'.'.join(name)} is not a table that is known")
    number = ev.read(table, invoker=scope.invoker)
    columns: dict[str, Alts] = {c.name: (Alt(Col(number, c.name, c.type)),) for c in table.columns}
    scope.sources[alias] = _renamed(columns, item.alias)
    return ev.visible(table, number) if scope.invoker else TRUE


def _renamed(columns: dict[str, Alts], alias: Any) -> dict[str, Alts]:
    new = [part.sval for part in (alias.colnames or ())] if alias else []
    return {(new[i] if i < len(new) else name): alts for i, (name, alts) in enumerate(columns.items())}


def _join(ev: "Evaluator", item: Any, scope: Scope) -> Dnf:
    kind = enums.JoinType(item.jointype)
    if kind not in (enums.JoinType.JOIN_INNER, enums.JoinType.JOIN_LEFT) or item.isNatural or item.alias:
        raise NotUnderstood("an outer or natural join")
    left = _source(ev, item.larg, scope)
    before = set(scope.sources)
    right = _source(ev, item.rarg, scope)
    conditions = [left, right]
    if item.quals is not None:
        conditions.append(ev.truth(item.quals, scope, sign=True))
    for part in item.usingClause or ():
        conditions.append(_using(scope, part.sval, before))
    # The optional side of a LEFT JOIN may be all NULL, so nothing is known of it until it equals something.
    return both(conditions) if kind == enums.JoinType.JOIN_INNER else left


def _using(scope: Scope, name: str, before: set[str]) -> Dnf:
    left = next(source[name] for alias, source in scope.sources.items() if alias in before and name in source)
    right = next(source[name] for alias, source in scope.sources.items() if alias not in before and name in source)
    scope.merged |= {name}
    if len(left) != 1 or len(right) != 1:
        return TRUE
    return ((Equal(left[0].term, right[0].term), *left[0].given, *right[0].given),)


def _derived(ev: "Evaluator", query: Any, alias: Any, scope: Scope, inside: Scope) -> Dnf:
    """A subquery in FROM, or a CTE: its columns are what its output expressions may be."""
    found = branches(ev, query, inside)
    columns: dict[str, Alts] = {}
    for branch in found:
        where = branch.where if len(found) > 1 else TRUE
        for at, (name, target) in enumerate(zip(branch.names, branch.targets, strict=False)):
            key = name if branch is found[0] else found[0].names[at]
            columns[key] = (*columns.get(key, ()), *given(values(ev, target, branch.scope), where))
    scope.sources[alias.aliasname] = _renamed(columns, alias)
    return found[0].where if len(found) == 1 else TRUE


def _function(ev: "Evaluator", item: Any, scope: Scope) -> Dnf:
    if len(item.functions) != 1 or item.ordinality:
        raise NotUnderstood("several functions in FROM")
    call = item.functions[0][0]
    if not isinstance(call, ast.FuncCall):
        raise NotUnderstood("an expression in FROM")
    alias = item.alias.aliasname if item.alias else call.funcname[-1].sval
    columns = [part.sval for part in (item.alias.colnames or ())] if item.alias else []
    if len(columns) > 1 or item.coldeflist:
        raise NotUnderstood("a function with several columns in FROM")
    scope.sources[alias] = {columns[0] if columns else alias: ev.call(call, scope)}
    return TRUE


def column(ev: "Evaluator", select: Any, scope: Scope) -> Alts:
    """What the first output column of a query's rows may be."""
    found: list[Alt] = []
    for branch in branches(ev, select, scope):
        found += given(values(ev, branch.targets[0], branch.scope), branch.where)
    return tuple(dict.fromkeys(found))


def array_of(ev: "Evaluator", select: Any, scope: Scope) -> Alts:
    """What the elements of (SELECT array_agg(x) FROM ...) may be."""
    found: list[Alt] = []
    for branch in branches(ev, select, scope, collapsed=True):
        target = branch.targets[0]
        while isinstance(target, ast.TypeCast) and branch.collapses:
            target = target.arg
        if isinstance(target, ast.CoalesceExpr) and _is_call(target.args[0], "array_agg"):
            found += [a for more in target.args[1:] for a in ev.elements(more, branch.scope)]
            target = target.args[0]
        if _is_call(target, "array_agg") and not target.over:
            found += given(values(ev, target.args[0], branch.scope), branch.where)
        elif branch.collapses:
            raise NotUnderstood("an aggregate")
        else:
            found += given(ev.elements(target, branch.scope), branch.where)
    return tuple(dict.fromkeys(found))


def _is_call(node: Any, name: str) -> bool:
    return isinstance(node, ast.FuncCall) and [p.sval for p in node.funcname][-1:] == [name] and len(node.funcname) <= 2


def is_count(ev: "Evaluator", node: Any, scope: Scope) -> Iterator[Dnf] | None:
    """For (SELECT count(...) FROM ...): when it is above zero. None for anything else."""
    if not isinstance(node, ast.SubLink) or node.subLinkType != enums.SubLinkType.EXPR_SUBLINK:
        return None
    select = node.subselect
    targets: Any = select.targetList or ()
    plain = not select.groupClause and not select.havingClause and not select.op and not select.valuesLists
    if len(targets) != 1 or not plain or not _is_call(targets[0].val, "count") or targets[0].val.over:
        return None
    return (branch.where for branch in branches(ev, select, scope, collapsed=True))
