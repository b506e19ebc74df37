"""Expressions and function bodies as syntax trees, each distinct text parsed once."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pglast
from pglast import ast
from pglast.stream import RawStream

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import parsed
from pytest_tenantproof.policy.terms import NotUnderstood

__all__ = [
    "Body",
    "calls",
    "expression",
    "function_body",
    "names",
    "relations",
    "render",
    "sql_text",
    "statement",
]

_RETURN = re.compile(r"\breturn\s+([a-z_][a-z0-9_]*)\s*;", re.I)
_ATOMIC = re.compile(r"\s*BEGIN\s+ATOMIC\b(.*)\bEND\s*;?\s*\Z", re.I | re.S)
_SCHEMA = re.compile(r'^("([^"]|"")+"|[^".\s(]+)\.')
_NAME = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')


@lru_cache(maxsize=20_000)
def expression(text: str) -> Any:
    """The tree of one SQL expression. Raises NotUnderstood when it is not exactly that."""
    select = statement(f"SELECT {text}")
    if len(select.targetList or ()) != 1 or select.fromClause or select.whereClause or select.op:
        raise NotUnderstood("is not one expression")
    return select.targetList[0].val


def statement(text: str) -> Any:
    """The tree of one SELECT. Raises NotUnderstood for anything else."""
    found = _statements(text)
    if len(found) != 1 or not isinstance(found[0], ast.SelectStmt):
        raise NotUnderstood("is not a single SELECT")
    return found[0]


@lru_cache(maxsize=20_000)
def _statements(text: str) -> tuple[Any, ...]:
    try:
        return tuple(raw.stmt for raw in pglast.parse_sql(text))
    except pglast.parser.ParseError as error:
        raise NotUnderstood("does not parse") from error


def render(node: Any) -> str:
    """SQL of a tree, on one line."""
    return " ".join(str(RawStream()(node)).split())


@lru_cache(maxsize=20_000)
def names(text: str) -> tuple[str, ...]:
    """The parts of a name as format('%I.%I') writes it, unquoted."""
    return tuple(quoted.replace('""', '"') if quoted or not plain else plain for quoted, plain in _NAME.findall(text))


@dataclass(frozen=True, slots=True)
class Body:
    """A function's body: one SELECT, or the statements of a PL/pgSQL block as its parser gives them."""

    select: Any = None
    block: Any = None
    parameters: tuple[str, ...] = ()


@lru_cache(maxsize=5_000)
def function_body(function: Function) -> Body:
    """Raises NotUnderstood for other languages, other statements, and what does not parse."""
    named = tuple(function.argument_names)
    if function.language == "sql":
        return Body(select=_sql_body(function.body), parameters=named)
    if function.language == "plpgsql":
        return Body(block=_plpgsql_body(function), parameters=named)
    raise NotUnderstood(f"is written in {function.language}")


def _sql_body(text: str) -> Any:
    return statement(sql_text(text))


def sql_text(body: str) -> str:
    """The statements of an SQL function, of the SQL standard's two forms too."""
    stripped = body.strip()
    if stripped[:7].upper() == "RETURN ":
        return f"SELECT {stripped[7:].rstrip(';')}"
    atomic = _ATOMIC.match(stripped)
    return atomic[1] if atomic else body


def _plpgsql_body(function: Function) -> Any:
    """The parser leaves out which variable a bare RETURN names, so each is made an expression first."""
    body = _RETURN.sub(r"return (\1);", function.body)
    named = function.argument_names
    pairs = [
        f'"{(named[i] if i < len(named) else "") or f"arg_{i + 1}"}" {_SCHEMA.sub("", type_)}'
        for i, type_ in enumerate(function.arguments)
    ]
    # Any return type does, but not one that decides what RETURN may be followed by.
    returns = "SETOF record" if function.returns.startswith(("SETOF", "TABLE")) else "text"
    try:
        return parsed(f"CREATE FUNCTION f({', '.join(pairs)}) RETURNS {returns}", body)
    except pglast.parser.ParseError as error:
        raise NotUnderstood("does not parse") from error


class _Walk:
    def __init__(self) -> None:
        self.calls: list[tuple[tuple[str, ...], int]] = []
        self.relations: list[tuple[str, ...]] = []

    def visit(self, node: Any) -> None:
        if isinstance(node, tuple):
            for item in node:
                self.visit(item)
        elif isinstance(node, ast.Node):
            self._note(node)
            for name in node:
                value = getattr(node, name)
                if isinstance(value, tuple | ast.Node):
                    self.visit(value)

    def _note(self, node: Any) -> None:
        match node:
            case ast.FuncCall():
                self.calls.append((tuple(part.sval for part in node.funcname), len(node.args or ())))
            case ast.RangeVar():
                self.relations.append((node.schemaname, node.relname) if node.schemaname else (node.relname,))


def _walk(node: Any) -> _Walk:
    walk = _Walk()
    walk.visit(node)
    return walk


def calls(node: Any) -> tuple[tuple[tuple[str, ...], int], ...]:
    """(name parts, number of arguments) of each function call in a tree, subqueries included."""
    return tuple(_walk(node).calls)


def relations(node: Any) -> tuple[tuple[str, ...], ...]:
    """Name parts of each relation named in a FROM clause of a tree, CTE names included."""
    return tuple(_walk(node).relations)
