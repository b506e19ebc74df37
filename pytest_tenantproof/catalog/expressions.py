"""Compares SQL expressions by their parse tree: spelling, parentheses, casts and InitPlan wrapping aside."""

import re
from functools import cache
from typing import Any

from pglast import ast, parse_sql
from pglast.parser import ParseError

__all__ = ["is_constant", "same_expression"]

_CONSTANT = re.compile(r"\(?(-?\d+(\.\d+)?|'(?:[^']|'')*')\)?(::[\w. \"]+(\(\d+\))?(\[\])?)?", re.I)


def is_constant(text: str) -> bool:
    """Whether an expression as the server writes it is one number or text, cast or not."""
    return _CONSTANT.fullmatch(text) is not None


def same_expression(left: str, right: str) -> bool:
    """Whether two expressions are the same but for spelling. What cannot be parsed equals nothing."""
    a, b = _normal(left), _normal(right)
    return a is not None and a == b


@cache
def _normal(text: str) -> str | None:
    try:
        statement = parse_sql(f"SELECT {text}")[0].stmt
    except (ParseError, IndexError):
        return None
    targets = getattr(statement, "targetList", None)
    return repr(_strip(targets[0].val)) if targets and len(targets) == 1 else None


def _strip(node: Any) -> Any:
    while True:
        if isinstance(node, ast.TypeCast):
            node = node.arg
        elif isinstance(node, ast.SubLink) and isinstance(node.subselect, ast.SelectStmt):
            inner = node.subselect
            if inner.fromClause or not inner.targetList or len(inner.targetList) != 1 or inner.whereClause:
                return _plain(node)
            node = inner.targetList[0].val
        else:
            return _plain(node)


def _plain(node: Any) -> Any:
    """The tree without positions, with every operand stripped alike."""
    if isinstance(node, ast.Node):
        names = (name for name in node if name not in ("location", "stmt_location", "stmt_len"))
        return (type(node).__name__, tuple((name, _strip(getattr(node, name))) for name in names))
    if isinstance(node, tuple):
        return tuple(_strip(item) for item in node)
    return node
