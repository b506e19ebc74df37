"""Queries of a trigger function: what they give when one row of one table is known, by its key.

A query on that table whose WHERE asks for that key finds that row or none. Of any other, nothing is known.
"""

from dataclasses import dataclass, replace
from typing import Any

from pglast import ast, enums

from pytest_tenantproof.catalog.evaluate import (
    ANYTHING,
    Found,
    Moment,
    Outcome,
    Row,
    keeps_apart,
    plain_name,
    truth_of,
    value_of,
)
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.catalog.values import UNKNOWN, Record, Value

__all__ = ["looked_up"]

_UNUSUAL = (
    "withClause",
    "groupClause",
    "havingClause",
    "windowClause",
    "valuesLists",
    "limitOffset",
    "distinctClause",
)
_BLANK = Record()


def looked_up(select: Any, at: Moment) -> tuple[Outcome, ...]:
    """What a query may give: its first row, or None for no row."""
    if not isinstance(select, ast.SelectStmt) or _unusual(select):
        return ANYTHING
    targets: Any = select.targetList or ()
    if not select.fromClause:
        return ANYTHING if select.whereClause is not None or not targets else (_found(targets, at),)
    arms = _arms(select.fromClause[0], at) if len(select.fromClause) == 1 else None
    counts = len(targets) == 1 and _is_count(targets[0].val)
    if arms is None or (_calls(targets) and not counts):
        return ANYTHING
    rows: set[_Arm | None] = set()
    sure = False
    for arm in (arm.holding(at.row) for arm in arms):
        matches = _matches(select.whereClause, arm, at)
        if matches is None or (rows - {None} and True in matches):
            return ANYTHING
        rows |= {arm if there else None for there in matches}
        sure |= matches == {True}
    if sure:
        rows.discard(None)
    if counts:
        return tuple(Found((("count", 0 if arm is None else 1),)) for arm in rows)
    return tuple(None if arm is None else _found(targets, arm.scoped(at)) for arm in rows)


def _unusual(select: Any) -> bool:
    limit = select.limitCount
    limited = limit is not None and not (isinstance(limit, ast.A_Const) and (getattr(limit.val, "ival", 0) or 0) > 0)
    waits = any(c.waitPolicy == enums.LockWaitPolicy.LockWaitSkip for c in select.lockingClause or ())
    return (
        limited
        or waits
        or select.op != enums.SetOperation.SETOP_NONE
        or any(getattr(select, part) for part in _UNUSUAL)
    )


def _is_count(node: Any) -> bool:
    return (
        isinstance(node, ast.FuncCall)
        and plain_name(node.funcname) == "count"
        and bool(node.agg_star)
        and node.agg_filter is None
        and node.over is None
    )


def _calls(node: Any) -> bool:
    """Whether a function is called anywhere in a tree: it may be an aggregate."""
    if isinstance(node, tuple):
        return any(_calls(item) for item in node)
    if not isinstance(node, ast.Node) or isinstance(node, ast.SubLink):
        return False
    return isinstance(node, ast.FuncCall) or any(_calls(getattr(node, name)) for name in node)


@dataclass(frozen=True, slots=True)
class _Arm:
    """One table behind a FROM item: under which alias, and what its columns are there: the table's, or constants."""

    alias: str
    table: Table
    columns: tuple[tuple[str, str | None], ...]
    constants: tuple[tuple[str, Value], ...]
    held: Record = _BLANK

    def holding(self, row: Row | None) -> "_Arm":
        return replace(self, held=row.held) if row and row.held and row.table.name == self.table.name else self

    def scoped(self, at: Moment) -> Moment:
        shown = tuple((name, self.held.get(base)) for name, base in self.columns if base)
        record = Record((*shown, *self.constants))
        columns = frozenset(name for name, _ in (*self.columns, *self.constants))
        return replace(at, scope={self.alias: (record, columns)})


def _arms(item: Any, at: Moment) -> list[_Arm] | None:
    """The tables that a FROM item shows rows of; None where that is not plain."""
    if isinstance(item, ast.RangeVar):
        table = _table(item, at)
        alias = item.alias.aliasname if item.alias else item.relname
        if table is None or (item.alias and item.alias.colnames):
            return None
        return [_Arm(alias, table, tuple((c.name, c.name) for c in table.columns), ())]
    if not isinstance(item, ast.RangeSubselect) or item.alias is None or item.alias.colnames or item.lateral:
        return None
    leaves = _leaves(item.subquery)
    names = [_named(target) for target in leaves[0].targetList or ()] if leaves else []
    arms = [_arm(leaf, item.alias.aliasname, names, at) for leaf in leaves]
    return [arm for arm in arms if arm] if arms and all(arms) else None


def _leaves(select: Any) -> list[Any]:
    """The SELECTs of a UNION ALL."""
    if select.op == enums.SetOperation.SETOP_UNION and select.all and not (select.limitCount or select.withClause):
        left, right = _leaves(select.larg), _leaves(select.rarg)
        return left + right if left and right else []
    return [] if _unusual(select) or select.limitCount else [select]


def _arm(leaf: Any, alias: str, names: list[str], at: Moment) -> _Arm | None:
    """One SELECT of columns and constants of one table, all rows of it."""
    found = _arms(leaf.fromClause[0], at) if len(leaf.fromClause or ()) == 1 else None
    targets = leaf.targetList or ()
    if not found or len(found) > 1 or leaf.whereClause is not None or len(targets) != len(names) or found[0].constants:
        return None
    below = found[0]
    columns: list[tuple[str, str | None]] = []
    constants: list[tuple[str, Value]] = []
    for name, target in zip(names, targets, strict=True):
        if isinstance(target.val, ast.A_Const | ast.TypeCast):
            constants.append((name, value_of(target.val, replace(at, state={}))))
        else:
            fields = [part.sval for part in getattr(target.val, "fields", ()) if isinstance(part, ast.String)]
            columns.append((name, fields[-1] if fields and below.table.column(fields[-1]) else None))
    return _Arm(alias, below.table, tuple(columns), tuple(constants))


def _table(item: Any, at: Moment) -> Table | None:
    """The table that a name means; None for ONLY, and where that depends on the caller's search path."""
    if not item.inh or item.catalogname:
        return None
    schemas = (item.schemaname,) if item.schemaname else at.schemas or ()
    return next((t for s in schemas if (t := at.tables.get(f"{s}.{item.relname}")) is not None), None)


def _matches(where: Any, arm: _Arm, at: Moment) -> set[bool] | None:
    """Whether the row that is known is among those of an arm that WHERE leaves; None where others may be."""
    row = at.row
    if row is not None and arm.table.name == row.table.name and _is_pinned(where, arm, at):
        if row.held is None:
            return {False}
    else:
        others = replace(arm, held=_BLANK).scoped(at)
        return {False} if where is not None and truth_of(where, others) is False else None
    holds = True if where is None else truth_of(where, arm.scoped(at))
    return {False, True} if holds is UNKNOWN else {holds is True}


def _is_pinned(where: Any, arm: _Arm, at: Moment) -> bool:
    """Whether WHERE asks that the table's key be the known row's."""
    if isinstance(where, ast.BoolExpr) and where.boolop == enums.BoolExprType.AND_EXPR:
        return any(_is_pinned(part, arm, at) for part in where.args)
    equality = isinstance(where, ast.A_Expr) and where.kind == enums.A_Expr_Kind.AEXPR_OP
    if at.row is None or not equality or plain_name(where.name) != "=":
        return False
    keys = {name for name, base in arm.columns if base in at.row.keys}
    scoped = replace(arm, held=_BLANK).scoped(at)
    for one, other in ((where.lexpr, where.rexpr), (where.rexpr, where.lexpr)):
        one = one.arg if isinstance(one, ast.TypeCast) and keeps_apart(one, at.row.at.types) else one
        if isinstance(one, ast.ColumnRef) and _column_of(one, scoped) in keys and value_of(other, scoped) == at.row.at:
            return True
    return False


def _column_of(node: Any, at: Moment) -> str:
    """The column of the scope's one row that a reference names, or ""."""
    names = [part.sval if isinstance(part, ast.String) else "*" for part in node.fields]
    [(alias, (_, columns))] = at.scope.items()
    if len(names) == 2 and names[0] == alias and alias not in at.state:
        return str(names[1]) if names[1] in columns else ""
    return str(names[0]) if len(names) == 1 and names[0] in columns and names[0] not in at.state else ""


def _found(targets: Any, at: Moment) -> Found:
    if any(isinstance(t.val, ast.ColumnRef) and isinstance(t.val.fields[-1], ast.A_Star) for t in targets):
        [(record, _)] = at.scope.values() if len(at.scope) == 1 and len(targets) == 1 else [(Record(), None)]
        return Found(record.fields, whole=True)
    return Found(tuple((_named(target), value_of(target.val, at)) for target in targets))


def _named(target: Any) -> str:
    if target.name:
        return str(target.name)
    last = target.val.fields[-1] if isinstance(target.val, ast.ColumnRef) else None
    return str(last.sval) if isinstance(last, ast.String) else ""
