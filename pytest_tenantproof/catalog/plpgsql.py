"""Just enough of PL/pgSQL's parse tree (libpg_query's) to recognise guards. What is not recognised is not one."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pglast import parse_plpgsql
from pglast.parser import ParseError

from pytest_tenantproof.catalog.expressions import same_expression
from pytest_tenantproof.catalog.model import Function

__all__ = [
    "Body",
    "body_of",
    "exit_of",
    "freezes",
    "into",
    "query",
    "raises",
    "raises_always",
    "statements_of",
    "without_comments",
]

Node = dict[str, Any]
_ERROR_LEVEL = 21

_EXITS = re.compile(
    r"\b(net\.http_\w+|http(_get|_post|_put|_delete|_head|_patch)?\s*\(|extensions\.http\w*|dblink\w*\s*\(|pg_notify\s*\("
    r"|notify\s+\w|copy\s.+\bprogram\b|copy\s.+\bto\s+'|lo_export|pg_file_write|supabase_functions\.http_request"
    r"|aws_lambda\.\w+|pgmq\.send\w*|realtime\.(send|broadcast_changes))",
    re.I | re.S,
)


@dataclass(frozen=True, slots=True)
class Body:
    """The statements of a block in order, whether any block in it catches exceptions, and variables' defaults."""

    statements: tuple[tuple[str, Node], ...]
    catches: bool
    defaults: tuple[tuple[str, str], ...] = ()

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every statement, nested ones too."""
        for kind, node in self.statements:
            yield from _nested(kind, node)


def body_of(function: Function) -> Body | None:
    """The body of a PL/pgSQL function; None for another language or what cannot be parsed."""
    if function.language != "plpgsql":
        return None
    if function.returns in ("trigger", "event_trigger"):
        return _parse(function.body, function.returns)
    # What RETURN may look like depends on the result type, whose name may mean nothing to the parser.
    tries = (_parse(function.body, returns) for returns in ("void", "integer", "SETOF record", "record"))
    return next((body for body in tries if body), None)


@cache
def _parse(body: str, returns: str) -> Body | None:
    text = f"CREATE FUNCTION f() RETURNS {returns} LANGUAGE plpgsql AS $tenantproof$ {body} $tenantproof$"
    try:
        function = parse_plpgsql(text)[0]["PLpgSQL_function"]
        block = function["action"]["PLpgSQL_stmt_block"]
    except (ParseError, KeyError, IndexError, ValueError):
        return None
    defaults = tuple(
        (str(datum["refname"]).lower(), query(datum, "default_val"))
        for item in function.get("datums", ())
        for datum in item.values()
        if "default_val" in datum
    )
    return Body(statements_of(block.get("body")), "PLpgSQL_exception_block" in json.dumps(block), defaults)


def statements_of(items: Any) -> tuple[tuple[str, Node], ...]:
    return tuple(next(iter(item.items())) for item in items or ())


def _nested(kind: str, node: Node) -> Iterator[tuple[str, Node]]:
    yield kind, node
    for value in node.values():
        for inner in _blocks(value):
            for child_kind, child in inner:
                yield from _nested(child_kind, child)


def _blocks(value: Any) -> Iterator[tuple[tuple[str, Node], ...]]:
    """Statement lists directly below a value."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        statements = tuple(pair for item in value for pair in item.items())
        if statements and all(kind.startswith("PLpgSQL_stmt") for kind, _ in statements):
            yield statements
        else:
            for _, node in statements:
                for inner in node.values() if isinstance(node, dict) else ():
                    yield from _blocks(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _blocks(inner)


def query(node: Node, key: str = "cond") -> str:
    """The text of an expression below a statement."""
    return str(node.get(key, {}).get("PLpgSQL_expr", {}).get("query", ""))


def raises(statements: Any) -> Node | None:
    """The first statement, where it is a RAISE EXCEPTION."""
    found = statements_of(statements)[:1]
    if found and found[0][0] == "PLpgSQL_stmt_raise" and found[0][1].get("elog_level") == _ERROR_LEVEL:
        return found[0][1]
    return None


def guards(function: Function) -> Iterator[tuple[str, Node]]:
    """(condition, RAISE) of each IF ... RAISE EXCEPTION that nothing before it can skip.

    A function that catches exceptions has none: the RAISE might not leave it.
    """
    body = body_of(function)
    if body is None or body.catches:
        return
    for kind, node in body.statements:
        if kind == "PLpgSQL_stmt_if":
            found = raises(node.get("then_body"))
            if found is not None:
                yield query(node), found
        if any(inner in ("PLpgSQL_stmt_return", "PLpgSQL_stmt_exit") for inner, _ in _nested(kind, node)):
            return


@cache
def raises_always(function: Function) -> bool:
    """Whether the function does nothing but raise."""
    body = body_of(function)
    return body is not None and not body.catches and bool(raises([dict([s]) for s in body.statements]))


@cache
def freezes(function: Function, column: str) -> bool:
    """Whether a row trigger function refuses any change of `column`, or puts the old value back, always."""
    name = f'(?:{re.escape(column)}|"{re.escape(column)}")'
    changed = re.compile(
        rf"^\(*\s*(?:new\.{name}\s+is\s+distinct\s+from\s+old\.{name}|old\.{name}\s+is\s+distinct\s+from\s+new\.{name}"
        rf"|new\.{name}\s*(?:<>|!=)\s*old\.{name}|old\.{name}\s*(?:<>|!=)\s*new\.{name})\s*\)*$",
        re.I,
    )
    for condition, _ in guards(function):
        alternatives = re.split(r"\s+or\s+", without_comments(condition), flags=re.I)
        if " and " not in condition.lower() and any(changed.match(part.strip()) for part in alternatives):
            return True
    return any(same_expression(value, f"old.{column}") for value in assignments(function, column, always=True))


def into(node: Node) -> tuple[str, ...]:
    """What SELECT INTO, FOR and FETCH write to."""
    target = node.get("target") or node.get("var") or {}
    fields = target.get("PLpgSQL_row", {}).get("fields", ())
    names = (*(field.get("name", "") for field in fields), target.get("PLpgSQL_rec", {}).get("refname", ""))
    return tuple(name.lower() for name in names if name)


@cache
def assignments(function: Function, column: str, *, always: bool = False) -> tuple[str, ...]:
    """What the function assigns to NEW.column (with `always`, only where nothing can skip it)."""
    return tuple(_assignments(function, column, always))


def _assignments(function: Function, column: str, always: bool) -> Iterator[str]:
    body = body_of(function)
    if body is None:
        return
    if always and body.catches:
        return
    for kind, node in body.statements if always else body.walk():
        if kind == "PLpgSQL_stmt_assign":
            target, _, value = query(node, "expr").partition(":=")
            if not value:
                target, _, value = query(node, "expr").partition("=")
            if target.strip().lower().replace('"', "") in (f"new.{column}".lower(), "new"):
                yield value.strip()
        elif f"new.{column}".lower() in into(node) or "new" in into(node):
            yield query(node, "sqlstmt") or query(node, "query") or "a query"
        if always and any(k == "PLpgSQL_stmt_return" for k, _ in _nested(kind, node)):
            return


@cache
def exit_of(function: Function) -> str:
    """What in the body reaches out of the database (HTTP, dblink, NOTIFY, files), or ""."""
    found = _EXITS.search(without_comments(function.body))
    return found[1].split("(")[0] if found else ""


@cache
def without_comments(text: str) -> str:
    """SQL text without comments and with white space folded; strings are left alone."""
    kept = re.sub(r"('(?:[^']|'')*')|--[^\n]*|/\*.*?\*/", lambda m: m[1] or " ", text, flags=re.S)
    return " ".join(kept.split())
