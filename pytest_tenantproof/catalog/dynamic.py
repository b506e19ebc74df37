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
_NAME = "tenantproof_any_name"


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
    kinds = {kind for _, kind in _PLACE.findall(template)}
    if kinds - {"I", "L", "%"}:
        return False
    filled = _PLACE.sub(lambda m: {"I": _NAME, "L": "'x'", "%": "%"}[m[2]], template)
    try:
        statements = [raw.stmt for raw in parse_sql(filled)]
    except ParseError:
        return False
    plain = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)
    return len(statements) == 1 and isinstance(statements[0], plain) and not _calls_any_name(statements[0])


def fixed_statement(text: str) -> Any:
    """The one statement that an EXECUTE always runs; None where names or values are filled in, or more may be run."""
    template = _template(text)
    try:
        statements = parse_sql(template or "")
    except ParseError:
        return None
    return statements[0].stmt if len(statements) == 1 and template and "%" not in template else None


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
