"""SQL made at run time by a PL/pgSQL body: whether its caller has a say in what it does."""

import re
from typing import Any

from pglast import ast, parse_sql
from pglast.parser import ParseError

from pytest_tenantproof.catalog.plpgsql import Body, query

__all__ = ["fixed_statement", "runs_callers_sql"]

_QUERIES = {
    "PLpgSQL_stmt_dynexecute": "query",
    "PLpgSQL_stmt_dynfors": "query",
    "PLpgSQL_stmt_return_query": "dynquery",
    "PLpgSQL_stmt_open": "dynquery",
    "PLpgSQL_stmt_forc": "dynquery",
}
_PLACE = re.compile(r"%(?:\d+\$)?(-?\d*)([a-zA-Z%])")
_NAME, _VALUE = "tenantproof_any_name", "tenantproof_any_value"


def runs_callers_sql(body: Body) -> bool:
    """Whether any of its run-time SQL is more than one fixed statement with names and constants filled in.

    That is format() of a constant with %I and %L alone, where no %I names a function: what such a statement does is
    what its caller may do anyway, as far as the body runs as its caller.
    """
    texts = [query(node, _QUERIES[kind]) for kind, node in body.walk() if kind in _QUERIES]
    return any(text and not _is_fixed(text) for text in texts)


def _is_fixed(text: str) -> bool:
    template = _template(text)
    if template is None:
        return False
    statement = _filled(template)
    plain = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)
    return isinstance(statement, plain) and not _calls_any_name(statement)


def fixed_statement(text: str) -> Any:
    """The one statement that an EXECUTE always runs, whatever values (%L) and names of columns that it reads (%I) are
    filled in; None where other names may be, or more may be run."""
    template = _template(text)
    statement = _filled(template) if template else None
    return statement if statement is not None and not _names_more(statement) else None


def _filled(template: str) -> Any:
    """The one statement that a template makes, each %I and %L a name or a constant by itself: in a string or a comment
    their quotes would end it."""
    kinds = [kind for _, kind in _PLACE.findall(template) if kind != "%"]
    if set(kinds) - {"I", "L"}:
        return None
    text = _PLACE.sub(lambda m: {"I": _NAME, "L": f"'{_VALUE}'", "%": "%"}[m[2]], template)
    try:
        statements = parse_sql(text)
    except ParseError:
        return None
    names, values = _counted(statements)
    alone = len(statements) == 1 and names == kinds.count("I") and values == kinds.count("L")
    return statements[0].stmt if alone else None


def _counted(node: Any) -> tuple[int, int]:
    """How many names, and constants, are what was filled in."""
    if isinstance(node, ast.A_Const):
        return 0, int(getattr(node.val, "sval", None) == _VALUE)
    if isinstance(node, str):
        return int(node == _NAME), 0
    inner = node if isinstance(node, tuple | list) else [getattr(node, n) for n in node] if _is_node(node) else []
    found = [_counted(item) for item in inner]
    return sum(names for names, _ in found), sum(values for _, values in found)


def _is_node(node: Any) -> bool:
    return isinstance(node, ast.Node)


def _names_more(node: Any) -> bool:
    """Whether what is filled in names more than columns that are read."""
    if isinstance(node, ast.ColumnRef):
        return False
    if isinstance(node, tuple):
        return any(_names_more(item) for item in node)
    return any(_names_more(getattr(node, name)) for name in node) if _is_node(node) else bool(node == _NAME)


def _template(text: str) -> str | None:
    """The constant that an expression is, or that it formats."""
    try:
        select: Any = parse_sql(f"SELECT {text}")[0].stmt
        [target] = select.targetList
    except (ParseError, ValueError, TypeError):
        return None
    value = target.val
    if isinstance(value, ast.FuncCall) and value.funcname[-1].sval == "format" and value.args:
        if len(value.funcname) == 2 and value.funcname[0].sval != "pg_catalog":
            return None
        value = value.args[0]
    is_text = isinstance(value, ast.A_Const) and isinstance(value.val, ast.String)
    return str(value.val.sval) if is_text else None


def _calls_any_name(node: Any) -> bool:
    if isinstance(node, tuple):
        return any(_calls_any_name(item) for item in node)
    if not isinstance(node, ast.Node):
        return False
    if isinstance(node, ast.FuncCall | ast.TypeName) and any(
        part.sval == _NAME for part in (node.funcname if isinstance(node, ast.FuncCall) else node.names)
    ):
        return True
    return any(_calls_any_name(getattr(node, name)) for name in node)
