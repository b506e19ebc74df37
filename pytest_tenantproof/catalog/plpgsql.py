"""Just enough of PL/pgSQL's parse tree (libpg_query's) to recognise guards. What is not recognised is not one."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pglast import parse_plpgsql, parse_sql
from pglast.parser import ParseError, scan

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.names import quoted

__all__ = [
    "Body",
    "assignments",
    "body_of",
    "branches",
    "declared_types",
    "exit_of",
    "into",
    "parsed",
    "query",
    "raises",
    "raises_always",
    "statements_of",
    "without_comments",
]

Node = dict[str, Any]
_ERROR_LEVEL = 21
_AFTER_TYPE = frozenset({"not", "collate", "default", ":=", "=", ";", ":"})

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
    block: Mapping[str, Any] = field(default_factory=dict)
    variables: tuple[str, ...] = ()
    """Declared names, those of loops too, as often as they are declared."""
    cursors: tuple[str, ...] = ()
    """The queries of declared cursors."""

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every statement in the order of the text, nested ones and those of exception handlers too."""
        yield from _nested("PLpgSQL_stmt_block", dict(self.block))


def body_of(function: Function) -> Body | None:
    """The body of a PL/pgSQL function; None for another language or what cannot be parsed."""
    if function.language != "plpgsql":
        return None
    if function.returns in ("trigger", "event_trigger"):
        return _parse(function.body, function.returns)
    # What RETURN may look like depends on the result type, whose name may mean nothing to the parser.
    results = ("void", "integer", "SETOF record", "record")
    plain = next((body for returns in results if (body := _parse(function.body, returns))), None)
    # A body that assigns to its parameters is read only where they are declared; of which type does not matter.
    named = "" if plain else ", ".join(f"{quoted(name)} text" for name in _parameters(function))
    return plain or next((body for returns in results if (body := _parse(function.body, returns, named))), None)


@cache
def _parameters(function: Function) -> tuple[str, ...]:
    """The names of all parameters, those that only return something too."""
    try:
        made = parse_sql(function.definition)
    except ParseError:
        made = ()
    given = (item.name for raw in made for item in getattr(raw.stmt, "parameters", None) or ())
    return tuple(dict.fromkeys(name for name in (*function.argument_names, *given) if name))


def parsed(header: str, body: str) -> Node:
    """The tree of a PL/pgSQL function. Raises ParseError.

    The parser knows the types of two schemas and takes every other one for a record: where that is in its way,
    variables are declared as text, or else by a type without its schema. Nothing here depends on their types.
    """
    for wording in (str, _with_scalars, _with_plain_types):
        text = wording(body)
        quote = "$tp$"
        while quote in text:
            quote = f"$tp{len(quote)}$"
        try:
            function: Node = parse_plpgsql(f"{header} LANGUAGE plpgsql AS {quote}{text}{quote}")[0]["PLpgSQL_function"]
        except (ParseError, KeyError, IndexError, ValueError) as error:
            problem = error
        else:
            return function
    raise problem if isinstance(problem, ParseError) else ParseError(str(problem), None)


def _with_scalars(body: str) -> str:
    return _redeclared(body, lambda name: name if name.lower() in ("record", "refcursor") else "text")


def _with_plain_types(body: str) -> str:
    return _redeclared(body, lambda name: name)


def _redeclared(body: str, type_: Callable[[str], str]) -> str:
    """A body whose variables are declared by other types than its own; what has a row's type is a record. Of a
    column's (%TYPE) the parser takes any."""
    try:
        tokens = scan(body)
    except ParseError:
        return body
    text, done, declaring = "", 0, False
    for place, token in enumerate(tokens):
        if token.name in ("DECLARE", "BEGIN_P"):
            declaring = token.name == "DECLARE"
        if (
            declaring
            and token.name in ("DECLARE", "ASCII_59")
            and _name(tokens, place + 1) not in ("DECLARE", "BEGIN_P")
        ):
            start = place + (3 if _word(body, tokens, place + 2) == "constant" else 2)
            last = start + (2 if _name(tokens, start + 1) == "ASCII_46" else 0)
            if _name(tokens, last + 1) == "ASCII_37" and _word(body, tokens, last + 2) == "rowtype":
                text += body[done : tokens[start].start] + "record"
                done = tokens[last + 2].end + 1
            elif _name(tokens, last) == "IDENT" and _name(tokens, last + 1) not in ("ASCII_37", "ASCII_46"):
                text += body[done : tokens[start].start] + type_(_word(body, tokens, last, as_is=True))
                done = tokens[last].end + 1
    return text + body[done:]


@cache
def declared_types(body: str) -> Mapping[str, str]:
    """The type of each declared variable, in lower case and without spaces but between words."""
    try:
        tokens = scan(body)
    except ParseError:
        return {}
    found, declaring = dict[str, str](), False
    for place, token in enumerate(tokens):
        if token.name in ("DECLARE", "BEGIN_P"):
            declaring = token.name == "DECLARE"
        if not declaring or token.name not in ("DECLARE", "ASCII_59"):
            continue
        start = place + (3 if _word(body, tokens, place + 2) == "constant" else 2)
        last = start
        while last < len(tokens) and _word(body, tokens, last) not in _AFTER_TYPE:
            last += 1
        if start < last < len(tokens):
            text = " ".join(body[tokens[start].start : tokens[last].start].lower().split())
            found[_word(body, tokens, place + 1).strip('"')] = re.sub(r"\s*([.%(),])\s*", r"\1", text)
    return found


def _name(tokens: Sequence[Any], place: int) -> str:
    return str(tokens[place].name) if place < len(tokens) else ""


def _word(body: str, tokens: Sequence[Any], place: int, *, as_is: bool = False) -> str:
    if place >= len(tokens):
        return ""
    word = body[tokens[place].start : tokens[place].end + 1]
    return word if as_is else word.lower()


@cache
def _parse(body: str, returns: str, parameters: str = "") -> Body | None:
    try:
        function = parsed(f"CREATE FUNCTION f({parameters}) RETURNS {returns}", body)
        block = function["action"]["PLpgSQL_stmt_block"]
    except (ParseError, KeyError):
        return None
    defaults = tuple(
        (str(datum["refname"]).lower(), query(datum, "default_val"))
        for item in function.get("datums", ())
        for datum in item.values()
        if "default_val" in datum
    )
    _name_targets(block, function.get("datums", ()))
    variables = tuple(str(d.get("refname", "")) for item in function.get("datums", ()) for d in item.values())
    catches = "PLpgSQL_exception_block" in json.dumps(block)
    data = [datum for item in function.get("datums", ()) for datum in item.values()]
    cursors = tuple(query(datum, "cursor_explicit_expr") for datum in data if "cursor_explicit_expr" in datum)
    return Body(statements_of(block.get("body")), catches, defaults, block, variables, cursors)


def _name_targets(node: Any, data: Sequence[Node]) -> None:
    """Says which variable GET DIAGNOSTICS and FOREACH write to, a number in the tree: "" where it is no plain one."""
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _name_targets(value, data)
    if isinstance(node, dict) and (item := node.get("PLpgSQL_diag_item")):
        item["name"] = str(data[item.get("target", 0)].get("PLpgSQL_var", {}).get("refname", ""))
    if isinstance(node, dict) and (loop := node.get("PLpgSQL_stmt_foreach_a")):
        loop["name"] = str(data[loop.get("varno", 0)].get("PLpgSQL_var", {}).get("refname", ""))


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


def branches(kind: str, node: Node) -> Iterator[tuple[str, Any]]:
    """(condition, statements) of IF and CASE, in order; ELSE is "true"."""
    if kind == "PLpgSQL_stmt_if":
        yield query(node), node.get("then_body")
        for item in node.get("elsif_list", ()):
            yield query(item["PLpgSQL_if_elsif"]), item["PLpgSQL_if_elsif"].get("stmts")
        yield "true", node.get("else_body", {}) and _else(node["else_body"])
        return
    switch = query(node, "t_expr")
    for item in node.get("case_when_list", ()):
        when = item["PLpgSQL_case_when"]
        yield re.sub(r'"?__Case__Variable_\d+__"?', f"({switch})", query(when, "expr")), when.get("stmts")
    # Without ELSE, CASE raises where nothing matches.
    if node.get("have_else"):
        yield "true", node.get("else_stmts")


def _else(node: Any) -> Any:
    return node.get("stmts", ()) if isinstance(node, dict) else node


def raises(statements: Any) -> Node | None:
    """The first statement, where it is a RAISE EXCEPTION."""
    found = statements_of(statements)[:1]
    if found and found[0][0] == "PLpgSQL_stmt_raise" and found[0][1].get("elog_level") == _ERROR_LEVEL:
        return found[0][1]
    return None


@cache
def raises_always(function: Function) -> bool:
    """Whether the function does nothing but raise."""
    body = body_of(function)
    return body is not None and not body.catches and bool(raises([dict([s]) for s in body.statements]))


def into(node: Node) -> tuple[str, ...]:
    """What SELECT INTO, FOR and FETCH write to."""
    target = node.get("target") or node.get("var") or {}
    fields = target.get("PLpgSQL_row", {}).get("fields", ())
    names = (*(field.get("name", "") for field in fields), target.get("PLpgSQL_rec", {}).get("refname", ""))
    return tuple(name.lower() for name in names if name)


@cache
def assignments(function: Function, column: str, row: str = "new") -> tuple[str, ...]:
    """What the function assigns to NEW.column, or to that of another row's variable, or to all of it."""
    return tuple(_assignments(function, f"{row}.{column}".lower(), row))


def _assignments(function: Function, field_: str, row: str) -> Iterator[str]:
    body = body_of(function)
    for kind, node in body.walk() if body else ():
        if kind == "PLpgSQL_stmt_assign":
            target, _, value = query(node, "expr").partition(":=")
            if not value:
                target, _, value = query(node, "expr").partition("=")
            if target.strip().lower().replace('"', "") in (field_, row):
                yield value.strip()
        elif field_ in into(node) or row in into(node):
            yield query(node, "sqlstmt") or query(node, "query") or "a query"


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
