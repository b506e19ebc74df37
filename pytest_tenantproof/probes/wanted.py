"""Claims that policies ask for beside the tenant: a second factor, a plan, a verified address.

Without them a permitted user is refused for want of one, and so is every attacker: that proves nothing of tenancy.
"""

import json
from collections.abc import Iterator
from typing import Any

from pglast import ast, enums

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import body_of, query
from pytest_tenantproof.policy.parse import expression, function_body
from pytest_tenantproof.policy.terms import NotUnderstood

__all__ = ["Claim", "wanted"]

Claim = tuple[tuple[str, ...], Any]
"""The path of a claim in the token, and a value that satisfies what asks for it."""

_ARROWS = frozenset({"->", "->>"})
_OF_TYPE = {"uuid": "00000000-0000-4000-8000-00000000c1a1", "int4": 1, "int8": 1, "numeric": 1, "bool": True}
_NEXT = {"=": 0, ">=": 0, "<=": 0, ">": 1, "<": -1, "<>": 1}
_DEEP = 6
_RETURN = "PLpgSQL_stmt_return"


def wanted(catalog: Catalog) -> tuple[Claim, ...]:
    """What restrictive policies ask of every row, then what permissive ones ask beside the tenant. The first of two
    values for one path counts."""
    policies = [policy for table in catalog.isolated_tables for policy in table.policies]
    texts = {(p.permissive, text) for p in policies for text in (p.using, p.check) if text}
    asked = _Asked(catalog)
    found: dict[tuple[str, ...], Any] = {}
    for permissive, text in sorted(texts):
        for path, value in asked.by(text, alone=not permissive):
            found.setdefault(path, value)
    return tuple(found.items())


class _Asked:
    """What conditions ask for. What is not understood asks for nothing."""

    def __init__(self, catalog: Catalog) -> None:
        plain = [f for f in catalog.own_functions if not f.arguments]
        self.functions = {f.name.rpartition(".")[2]: f for f in plain} | {f.name: f for f in plain}

    def by(self, text: str, *, alone: bool) -> list[Claim]:
        """`alone`: also where the condition asks for claims and nothing else."""
        try:
            node = _bare(expression(text))
        except NotUnderstood:
            return []
        parts = _parts(node, enums.BoolExprType.AND_EXPR)
        asked = [list(self._of(part)) for part in parts]
        return [claim for claims in asked for claim in claims] if alone or not all(asked) else []

    def _of(self, node: Any, deep: int = 0) -> Iterator[Claim]:
        node = _bare(node)
        match node:
            case ast.BoolExpr(boolop=enums.BoolExprType.AND_EXPR):
                yield from (claim for part in node.args for claim in self._of(part, deep))
            case ast.BoolExpr(boolop=enums.BoolExprType.OR_EXPR):
                ways = [list(self._of(part, deep)) for part in node.args]
                yield from next((way for way in ways if way), [])
            case ast.BoolExpr():
                yield from self._truth(node.args[0], False)
            case ast.BooleanTest():
                yield from self._truth(node.arg, "TRUE" in enums.BoolTestType(node.booltesttype).name)
            case ast.NullTest(nulltesttype=enums.NullTestType.IS_NOT_NULL):
                yield from self._present(node.arg)
            case ast.A_Expr():
                yield from _compared(node)
            case ast.FuncCall() if not node.args and deep < _DEEP:
                yield from self._called(node, deep)
            case ast.TypeCast():
                yield from self._truth(node, True)

    @staticmethod
    def _truth(node: Any, value: bool) -> Iterator[Claim]:
        if path := _path(node):
            yield path, value

    @staticmethod
    def _present(node: Any) -> Iterator[Claim]:
        node = _bare(node)
        kind = node.typeName.names[-1].sval if isinstance(node, ast.TypeCast) else "text"
        if path := _path(node):
            yield path, _OF_TYPE.get(kind, "x")

    def _called(self, node: ast.FuncCall, deep: int) -> Iterator[Claim]:
        name = ".".join(part.sval for part in node.funcname)
        if function := self.functions.get(name):
            yield from self._of(_result(function), deep + 1)


def _result(function: Function) -> Any:
    """What a function of one SELECT without FROM, or of one RETURN, gives; None of another."""
    try:
        if function.language == "plpgsql":
            body = body_of(function)
            returns = [query(node, "expr") for kind, node in body.walk() if kind == _RETURN] if body else []
            return expression(returns[0]) if len(returns) == 1 and returns[0] else None
        select = function_body(function).select
    except NotUnderstood:
        return None
    plain = select is not None and select.targetList and not select.fromClause and not select.whereClause
    return select.targetList[0].val if plain else None


def _bare(node: Any) -> Any:
    """Without the SELECT around it."""
    while isinstance(node, ast.SubLink) and node.subLinkType == enums.SubLinkType.EXPR_SUBLINK:
        inner = node.subselect
        if inner.fromClause or not inner.targetList:
            break
        node = inner.targetList[0].val
    return node


def _parts(node: Any, kind: enums.BoolExprType) -> tuple[Any, ...]:
    if isinstance(node, ast.BoolExpr) and node.boolop == kind:
        return tuple(part for arg in node.args for part in _parts(_bare(arg), kind))
    return (node,)


def _inner(node: Any) -> Any:
    """Without casts, the SELECT around it, and what it is where it is absent."""
    while True:
        bare = _bare(node)
        if isinstance(bare, ast.TypeCast):
            bare = bare.arg
        elif isinstance(bare, ast.CoalesceExpr):
            bare = bare.args[0]
        if bare is node:
            return node
        node = bare


def _path(node: Any) -> tuple[str, ...]:
    """The path of the claim that an expression reads; () of another."""
    names: list[str] = []
    node = _inner(node)
    while isinstance(node, ast.A_Expr) and node.name[-1].sval in _ARROWS:
        key = _constant(node.rexpr)
        if not isinstance(key, str):
            return ()
        names.insert(0, key)
        node = _inner(node.lexpr)
    return tuple(names) if isinstance(node, ast.FuncCall) else ()


def _constant(node: Any) -> Any:
    """A text, number or truth value; None of anything else."""
    node = _inner(node)
    if not isinstance(node, ast.A_Const) or node.isnull:
        return None
    value = node.val
    if isinstance(value, ast.Integer | ast.Boolean):
        return value.ival if isinstance(value, ast.Integer) else value.boolval
    return value.sval if isinstance(value, ast.String) else None


def _compared(node: ast.A_Expr) -> Iterator[Claim]:
    path, name = _path(node.lexpr), node.name[-1].sval
    if isinstance(left := _inner(node.lexpr), ast.A_ArrayExpr) and name == "<@":
        path = _path(left.elements[0])
        value: Any = next(iter(_shared(node.rexpr)), None)
    elif node.kind in (enums.A_Expr_Kind.AEXPR_OP_ANY, enums.A_Expr_Kind.AEXPR_IN):
        value = next(iter(_texts(node.rexpr)), None)
    else:
        value = _constant(node.rexpr)
        if not path and name == "=":
            path, value = _path(node.rexpr), _constant(node.lexpr)
        value = _satisfying(name, value)
    if path and value is not None:
        yield path, value


def _satisfying(name: str, value: Any) -> Any:
    match name, value:
        case "?", str():
            return [value]
        case "@>", str():
            return _parsed(value)
        case (("=" | ">=" | "<=" | ">" | "<" | "<>"), int()) if not isinstance(value, bool):
            return value + _NEXT[name]
        case "<>", str():
            return f"not {value}"
        case "=", _:
            return value
    return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _texts(node: Any) -> list[Any]:
    """Constants of a list or array."""
    node = _inner(node)
    items = node.elements if isinstance(node, ast.A_ArrayExpr) else node if isinstance(node, tuple) else (node,)
    found = [value for item in items if (value := _constant(item)) is not None]
    if len(found) == 1 and isinstance(found[0], str) and found[0].startswith("{"):
        return found[0].strip("{}").split(",")
    return found


def _shared(node: Any) -> list[Any]:
    """Constants that all arrays within an expression have."""
    arrays = [_texts(array) for array in _arrays(node)]
    return [value for value in arrays[0] if all(value in other for other in arrays)] if arrays else []


def _arrays(node: Any) -> Iterator[ast.A_ArrayExpr]:
    if isinstance(node, ast.A_ArrayExpr):
        yield node
    elif isinstance(node, tuple):
        for item in node:
            yield from _arrays(item)
    elif isinstance(node, ast.Node):
        for name in node:
            yield from _arrays(getattr(node, name))
