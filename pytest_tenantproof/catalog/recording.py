"""Whether a trigger function writes an audit event on every path, and what it puts into it.

PL/pgSQL is followed through IF, CASE, nested blocks and loops over queries, with conditions on TG_OP decided by
the event. What is not understood (dynamic SQL, a helper that inserts) counts as not written.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import Node, body_of, branches, query, raises, statements_of

__all__ = ["Recording", "gap", "parsed", "recordings"]


@dataclass(frozen=True)
class Recording:
    """One INSERT into an audit table: each column's expressions (one for each row of VALUES), and its source.

    `partial` is what keeps rows from it (WHERE, LIMIT, ON CONFLICT), or "".
    """

    table: str
    values: Mapping[str, tuple[Any, ...]]
    select: Any
    partial: str = ""


@cache
def parsed(text: str) -> Any:
    """The tree of one statement, or None."""
    try:
        found = parse_sql(text)
    except ParseError:
        return None
    return found[0].stmt if len(found) == 1 else None


def recordings(function: Function, tables: Mapping[str, tuple[str, ...]]) -> tuple[Recording, ...]:
    """The function's INSERTs into `tables` (by name, with their columns in order)."""
    body = body_of(function)
    found = (_recording(kind, node, tables) for kind, node in body.walk()) if body else ()
    return tuple(item for item in found if item)


def _recording(kind: str, node: Node, tables: Mapping[str, tuple[str, ...]]) -> Recording | None:
    statement = parsed(query(node, "sqlstmt")) if kind == "PLpgSQL_stmt_execsql" else None
    if not isinstance(statement, ast.InsertStmt) or not statement.relation.schemaname:
        return None
    name = f"{statement.relation.schemaname}.{statement.relation.relname}"
    if name not in tables:
        return None
    select = statement.selectStmt
    columns = tuple(c.name for c in statement.cols or ()) or tables[name]
    rows = select.valuesLists or ((tuple(t.val for t in select.targetList or ())),) if select else ()
    values = {c: tuple(row[n] for row in rows if n < len(row)) for n, c in enumerate(columns)}
    written = {c: v for c, v in values.items() if v}
    partial = "ON CONFLICT" if statement.onConflictClause else _partial(select) if select else "no row"
    return Recording(name, written, select, partial)


def _partial(select: Any) -> str:
    if select.op != enums.SetOperation.SETOP_NONE:
        return _partial(select.larg) or _partial(select.rarg)
    if select.whereClause is not None and not _whole_row(select.whereClause):
        return "WHERE"
    if select.havingClause is not None or select.limitCount is not None or _offset(select.limitOffset):
        return "HAVING, LIMIT or OFFSET"
    for item in _items(select.fromClause):
        if isinstance(item, ast.RangeSubselect) and not item.lateral and (found := _partial(item.subquery)):
            return found
    return ""


def _items(clause: Any) -> Iterator[Any]:
    for item in clause or ():
        if isinstance(item, ast.JoinExpr):
            yield from _items((item.larg, item.rarg))
        else:
            yield item


def _offset(node: Any) -> bool:
    return node is not None and not (isinstance(node, ast.A_Const) and getattr(node.val, "ival", 1) == 0)


def _whole_row(node: Any) -> bool:
    """`o IS DISTINCT FROM n`: leaves out rows that did not change."""
    both = isinstance(node, ast.A_Expr) and node.kind == enums.A_Expr_Kind.AEXPR_DISTINCT
    return both and all(isinstance(s, ast.ColumnRef) and len(s.fields) == 1 for s in (node.lexpr, node.rexpr))


def gap(function: Function, event: str, tables: Mapping[str, tuple[str, ...]]) -> str:
    """Why a write of this kind may leave no event; "" when each path inserts one or raises."""
    body = body_of(function)
    if body is None:
        return "is not PL/pgSQL that can be followed"
    if body.catches:
        return "catches exceptions: a write whose event failed is kept"
    found = recordings(function, tables)
    if partial := next((r.partial for r in found if r.partial), ""):
        return f"leaves events out by {partial}"
    paths = _Paths(event, tables)
    if any(not done for done in paths.run(body.statements, {False})):
        paths.missed = True
    return "has a path that records nothing" if paths.missed else ""


class _Paths:
    """Follows statements for one event. A path is whether an event was written on it yet."""

    def __init__(self, event: str, tables: Mapping[str, tuple[str, ...]]) -> None:
        self.event, self.tables = event, tables
        self.missed = False

    def run(self, statements: tuple[tuple[str, Node], ...], paths: set[bool]) -> set[bool]:
        for kind, node in statements:
            if not paths:
                break
            paths = self._step(kind, node, paths)
        return paths

    def _step(self, kind: str, node: Node, paths: set[bool]) -> set[bool]:
        if _recording(kind, node, self.tables):
            return {True}
        if kind == "PLpgSQL_stmt_return":
            self.missed |= False in paths
            return set()
        if raises([{kind: node}]):
            return set()
        if kind == "PLpgSQL_stmt_exit":
            return paths | {False}
        if kind == "PLpgSQL_stmt_block":
            return self.run(statements_of(node.get("body")), paths)
        if kind in ("PLpgSQL_stmt_if", "PLpgSQL_stmt_case"):
            return self._branches(branches(kind, node), paths)
        inside = self.run(statements_of(node.get("body")), paths)
        return inside if kind == "PLpgSQL_stmt_fors" and _all_rows(query(node, "query")) else paths | inside

    def _branches(self, branches: Iterator[tuple[str, Any]], paths: set[bool]) -> set[bool]:
        after: set[bool] = set()
        for condition, statements in branches:
            met = _decide(condition, self.event)
            if met is not False:
                after |= self.run(statements_of(statements), set(paths))
            if met is True:
                return after
        return after


def _all_rows(text: str) -> bool:
    select = parsed(text)
    return isinstance(select, ast.SelectStmt) and not _partial(select)


def _decide(condition: str, event: str) -> bool | None:
    """Whether a condition holds for the event; None where that depends on something else."""
    select = parsed(f"SELECT {condition}")
    return _holds(select.targetList[0].val, event) if isinstance(select, ast.SelectStmt) else None


def _holds(node: Any, event: str) -> bool | None:
    match node:
        case ast.BoolExpr():
            return _combine(node, event)
        case ast.A_Const():
            value = getattr(node.val, "boolval", None)
            return value if isinstance(value, bool) else None
        case ast.A_Expr(kind=enums.A_Expr_Kind.AEXPR_DISTINCT | enums.A_Expr_Kind.AEXPR_NOT_DISTINCT):
            # A row that did not change may go unrecorded.
            sides = {_name(node.lexpr), _name(node.rexpr)}
            return node.kind == enums.A_Expr_Kind.AEXPR_DISTINCT if sides == {"old", "new"} else None
        case ast.A_Expr() if _name(node.lexpr) == "tg_op":
            listed = node.rexpr if isinstance(node.rexpr, tuple) else (node.rexpr,)
            texts = {getattr(getattr(n, "val", None), "sval", None) for n in listed}
            operator = node.name[0].sval
            if None in texts or operator not in ("=", "<>"):
                return None
            return bool((event in texts) == (operator == "="))
    return None


def _combine(node: Any, event: str) -> bool | None:
    parts = [_holds(arg, event) for arg in node.args]
    if node.boolop == enums.BoolExprType.NOT_EXPR:
        return None if parts[0] is None else not parts[0]
    decisive = node.boolop == enums.BoolExprType.OR_EXPR
    return decisive if decisive in parts else None if None in parts else not decisive


def _name(node: Any) -> str:
    """A column reference's first name, lower case; `old.*` is old."""
    if isinstance(node, ast.ColumnRef) and isinstance(node.fields[0], ast.String):
        more = node.fields[1:]
        return str(node.fields[0].sval).lower() if not more or isinstance(more[0], ast.A_Star) else ""
    return ""
