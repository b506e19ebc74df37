"""Every way through a trigger function, from one known state: how it may end, and with which values.

Conditions that are understood choose their branch; of the others both branches are taken. Variables that a loop or
the statements before an exception handler may have changed are unknown after it. What raises leaves no end, unless
a handler may have caught it. ASSERT is no refusal: `plpgsql.check_asserts` switches it off.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pglast import ast
from pglast.parser import ParseError, scan

from pytest_tenantproof.catalog.evaluate import Found, Moment, State, evaluate, truth
from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.names import quoted
from pytest_tenantproof.catalog.plpgsql import (
    Body,
    Node,
    body_of,
    branches,
    declared_types,
    query,
    statements_of,
    without_comments,
)
from pytest_tenantproof.catalog.recording import parsed
from pytest_tenantproof.catalog.values import UNKNOWN, Record, Token, Unknown, Value

__all__ = ["End", "follow", "has_alias", "returned", "written"]

_MOST = 500
_STALE = "\0stale"
"""In a state whose function may have changed the row that was known."""
_ERROR_LEVEL = 21
_LOOPS = frozenset(f"PLpgSQL_stmt_{name}" for name in ("loop", "while", "fori", "fors", "forc", "dynfors", "foreach_a"))
_INERT = frozenset(f"PLpgSQL_stmt_{name}" for name in ("assert", "open", "close"))
_READS = frozenset(f"PLpgSQL_stmt_{name}" for name in ("execsql", "dynexecute", "fetch"))
_DYNAMIC = frozenset({"PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors", "PLpgSQL_stmt_call"})
_TEXTS = {"PLpgSQL_stmt_execsql": "sqlstmt", "PLpgSQL_stmt_perform": "expr", "PLpgSQL_stmt_fors": "query"}
_KEEPS_ALL = frozenset({"text", "varchar", "character varying", "bool", "boolean", "record", "json", "jsonb"})
_WHOLE = frozenset({"uuid", "int", "integer", "bigint", "smallint", "numeric", "int2", "int4", "int8"})
_NAME = r'("(?:[^"]|"")+"|\w+)'
_TARGET = re.compile(rf"\s*{_NAME}(?:\s*\.\s*{_NAME})?\s*(?::=|=)(.*)", re.S)
_ALIAS = re.compile(r"\balias\s+for\b", re.I)
Target = tuple[str, str]
"""A variable, and a field of it or ""."""


@dataclass(frozen=True)
class End:
    """A RETURN of `word` (new, old, null, or "" for anything else) and the variables there."""

    word: str
    state: State


class _NotUnderstood(Exception):
    """The function has something whose effect nobody can tell."""


def follow(function: Function, at: Moment) -> tuple[End, ...] | None:
    """Every end that a trigger function may come to from `at.state`: new, old and tg_*. None where nobody can tell."""
    body, words = body_of(function), returned(function)
    if body is None or words is None or not _is_plain(function, body):
        return None
    paths = _Paths(at, words)
    try:
        paths.block(body.block, {**_variables(function, body, at), **at.state})
    except _NotUnderstood:
        return None
    return tuple(paths.ends)


def _is_plain(function: Function, body: Body) -> bool:
    """Whether new, old and found are what they are everywhere."""
    names = {"new", "old", "found"}
    labels = {str(node.get("label", "")) for _, node in body.walk()}
    shadowed = any(body.variables.count(name) > 1 for name in names)
    return not (shadowed or names & labels or has_alias(function))


def has_alias(function: Function) -> bool:
    """Whether a variable, or NEW or OLD, may have a second name."""
    return _ALIAS.search(without_comments(function.body)) is not None


@cache
def returned(function: Function) -> Mapping[int, str] | None:
    """What each RETURN gives, by the identity of its node: trees do not tell NEW, OLD and other rows apart."""
    body = body_of(function)
    try:
        tokens = [token for token in scan(function.body) if "COMMENT" not in token.name]
    except ParseError:
        return None
    places = [n for n, token in enumerate(tokens) if token.name == "RETURN"]
    nodes = [node for kind, node in body.walk() if kind == "PLpgSQL_stmt_return"] if body else []
    if len(places) != len(nodes):
        return None
    found = {}
    for place, node in zip(places, nodes, strict=True):
        last = next((n for n in range(place, len(tokens)) if tokens[n].name == "ASCII_59"), place)
        text = function.body[tokens[place].end + 1 : tokens[last].start]
        word = "".join(re.sub(r"--[^\n]*", "", text).split()).lower()
        found[id(node)] = {"coalesce(new,old)": "new"}.get(word, word)
    return found


def _variables(function: Function, body: Body, at: Moment) -> dict[str, Value]:
    """What variables hold at the start. Those of inner blocks start whenever their block does."""
    counted = Counter(name for name in body.variables if name and name not in at.state and name != "found")
    found: dict[str, Value] = {"found": False}
    declared = [token.name for token in scan(function.body) if token.name in ("DECLARE", "BEGIN_P")]
    texts, typed = dict(body.defaults), declared_types(function.body)
    for name, times in counted.items():
        if times > 1 or (name.lower() in typed and not _is_kept_by(typed[name.lower()], at)):
            found[name] = Unknown.SHADOWED
        elif "DECLARE" in declared[1:]:
            found[name] = UNKNOWN
        else:
            now = replace(at, state={**at.state, **found})
            found[name] = evaluate(texts[name.lower()], now) if name.lower() in texts else None
    # A label before a variable, of a block or the function itself, may be what a query's alias seems to be.
    labels = {str(node.get("label", "")) for _, node in body.walk()} | {function.name.rpartition(".")[2].strip('"')}
    return {**found, **dict.fromkeys(labels - {""}, UNKNOWN)}


def _is_kept_by(type_: str, at: Moment) -> bool:
    """Whether a variable of that type keeps apart what differs: others round, cut, or read two texts as one value."""
    rows = [row for row in (*at.state.values(), at.row and at.row.held) if isinstance(row, Record)]
    values = [(name, value) for row in rows for name, value in row.fields]
    types = {known for _, value in values if isinstance(value, Token) for known in value.types}
    if type_.endswith("%type"):
        return type_.removesuffix("%type").rpartition(".")[2] in {name for name, _ in values}
    return type_ in _KEEPS_ALL or type_ in types or (type_ in _WHOLE and types <= {"uuid", "int2", "int4", "int8"})


class _Paths:
    def __init__(self, at: Moment, words: Mapping[int, str]) -> None:
        self.at, self.words = at, words
        self.ends: list[End] = []
        self.left: dict[str, list[State]] = defaultdict(list)
        """States in which EXIT leaves the block or loop of that label."""

    def block(self, node: Mapping[str, Any], state: State) -> list[State]:
        after = self.run(statements_of(node.get("body")), [state])
        handlers = node.get("exceptions", {}).get("PLpgSQL_exception_block", {}).get("exc_list", ())
        changed = self._after(state, node.get("body")) if handlers else state
        for handler in handlers:
            after += self.run(statements_of(handler["PLpgSQL_exception"].get("action")), [changed])
        return after + self.left.pop(node.get("label", ""), [])

    def run(self, statements: Sequence[tuple[str, Node]], states: list[State]) -> list[State]:
        for kind, node in statements:
            after = [found for state in states for found in self._step(kind, node, state)]
            states = list({frozenset(state.items()): state for state in after}.values())
            if len(states) > _MOST or len(self.ends) > _MOST:
                raise _NotUnderstood
        return states

    def _step(self, kind: str, node: Node, state: State) -> list[State]:
        if kind == "PLpgSQL_stmt_block":
            return self.block(node, state)
        if kind == "PLpgSQL_stmt_assign":
            return [_assigned(node, state, self._at(state))]
        if kind in ("PLpgSQL_stmt_if", "PLpgSQL_stmt_case"):
            return self._branches(kind, node, state)
        if kind == "PLpgSQL_stmt_return":
            self.ends.append(End(self.words[id(node)], state))
            return []
        if kind == "PLpgSQL_stmt_raise":
            return [] if node.get("elog_level", _ERROR_LEVEL) >= _ERROR_LEVEL else [state]
        if kind == "PLpgSQL_stmt_exit":
            goes = truth(query(node), self._at(state)) if node.get("cond") else True
            if node.get("label") and goes in (True, UNKNOWN):
                self.left[node["label"]].append(state)
            return [] if goes is True else [state]
        if kind in _LOOPS:
            return self._loop(kind, node, state)
        if kind in ("PLpgSQL_stmt_execsql", "PLpgSQL_stmt_perform"):
            return list(self._query(kind, node, state))
        if kind in _INERT:
            return [state]
        return [self._after(state, [{kind: node}])]

    def _after(self, state: State, statements: Any) -> State:
        """The state after statements of which nobody knows which ran."""
        block = Body((), catches=False, block={"body": statements or []})
        changing = any(
            kind in _DYNAMIC or self._may_change_rows(parsed(query(node, _TEXTS[kind])))
            for kind, node in block.walk()
            if kind in _DYNAMIC or kind in _TEXTS
        )
        return {**_forgotten(state, statements), **({_STALE: True} if changing else {})}

    def _at(self, state: State) -> Moment:
        return replace(self.at, state=state, row=None if _STALE in state else self.at.row)

    def _may_change_rows(self, statement: Any) -> bool:
        """Whether a statement may write to the table whose row is known."""
        if self.at.row is None:
            return False
        written_to = getattr(getattr(statement, "relation", None), "relname", "")
        if isinstance(statement, ast.SelectStmt):
            return statement.withClause is not None
        return not written_to or f".{quoted(written_to)}" in f".{self.at.row.table.name}"

    def _branches(self, kind: str, node: Node, state: State) -> list[State]:
        """CASE without ELSE raises where nothing matches."""
        after: list[State] = []
        for condition, statements in branches(kind, node):
            met = truth(condition, self._at(state))
            if met is True or met is UNKNOWN:
                after += self.run(statements_of(statements), [state])
            if met is True:
                break
        return after

    def _loop(self, kind: str, node: Node, state: State) -> list[State]:
        """What comes out of a loop, however often it ran: one without an end only by EXIT."""
        if kind == "PLpgSQL_stmt_foreach_a" and (each := _arguments(node, self._at(state))) is not None:
            return self._each(node, each, state)
        changed = self._after(state, [{kind: node}])
        self.run(statements_of(node.get("body")), [changed])
        return [changed] if kind != "PLpgSQL_stmt_loop" or _has_exit(node) else []

    def _each(self, node: Node, values: Sequence[Value], state: State) -> list[State]:
        """FOREACH over values that are known, without an EXIT or CONTINUE: one turn after the other."""
        states = [state]
        for value in values:
            states = [
                after
                for each in states
                for after in self.run(statements_of(node.get("body")), [{**each, node["name"]: value}])
            ]
        return [{**each, "found": UNKNOWN} for each in states]

    def _query(self, kind: str, node: Node, state: State) -> Iterator[State]:
        targets = tuple(_targets(node))
        select = parsed(query(node, "sqlstmt") or query(node, "expr"))
        if self._may_change_rows(select):
            state = {**state, _STALE: True}
        if kind == "PLpgSQL_stmt_execsql" and not targets:
            yield {**state, "found": UNKNOWN}
            return
        for outcome in self.at.queries(select, self._at(state)):
            if outcome is not None or not node.get("strict"):
                yield {**_received(node, targets, outcome, state), "found": outcome is not None}


def _arguments(node: Node, at: Moment) -> Sequence[Value] | None:
    """The trigger's arguments, where a FOREACH goes through them into one variable and to the end."""
    if query(node, "expr").strip().lower() != "tg_argv" or at.state.get(node.get("name", "")) is Unknown.SHADOWED:
        return None
    held = at.state.get("tg_argv")
    leaves = any(kind == "PLpgSQL_stmt_exit" for kind, _ in Body((), catches=False, block=node).walk())
    known = isinstance(held, Record) and held.rest is None and node.get("name") in at.state and not node.get("slice")
    return [value for _, value in held.fields] if isinstance(held, Record) and known and not leaves else None


def _has_exit(node: Mapping[str, Any]) -> bool:
    block = Body((), catches=False, block=node)
    return any(kind == "PLpgSQL_stmt_exit" and inner.get("is_exit") for kind, inner in block.walk())


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _targets(node: Mapping[str, Any]) -> Iterator[Target]:
    """What a query, FETCH or loop writes to."""
    target = node.get("target") or node.get("var") or {}
    for form in target.values():
        for field in form.get("fields", (form,)):
            variable, _, of = str(field.get("name") or field.get("refname") or "").partition(".")
            yield variable, of


def _target(text: str) -> tuple[Target, str] | None:
    found = _TARGET.fullmatch(text)
    return ((_unquoted(found[1]), _unquoted(found[2]) if found[2] else ""), found[3]) if found else None


def _put(state: State, target: Target, value: Value) -> State:
    name, of = target
    if name not in state:
        return _all_forgotten(state)
    if state[name] is Unknown.SHADOWED:
        return state
    if not of:
        return {**state, name: Record() if name in ("new", "old") and not isinstance(value, Record) else value}
    held = state[name]
    return {**state, name: (held if isinstance(held, Record) else Record()).put(of, value)}


def _assigned(node: Node, state: State, at: Moment) -> State:
    found = _target(query(node, "expr"))
    return (
        _put(state, found[0], evaluate(found[1], at)) if found else _forgotten(state, [{"PLpgSQL_stmt_assign": node}])
    )


def _received(node: Node, targets: Sequence[Target], outcome: Found | None, state: State) -> State:
    if "PLpgSQL_rec" in node.get("target", {}):
        values = Record((), None) if outcome is None else Record(tuple((n, v) for n, v in outcome.values if n))
        return _put(state, targets[0], values)
    for position, target in enumerate(targets):
        value: Value = UNKNOWN
        if outcome is None:
            value = None
        elif not outcome.whole and position < len(outcome.values):
            value = outcome.values[position][1]
        state = _put(state, target, value)
    return state


def written(block: Mapping[str, Any]) -> Iterator[Target | None]:
    """What the statements of a block write to; None for what may be anything."""
    for kind, node in Body((), catches=False, block=block).walk():
        if kind == "PLpgSQL_stmt_assign":
            found = _target(query(node, "expr"))
            yield found[0] if found else None
        elif kind == "PLpgSQL_stmt_getdiag":
            names = [item["PLpgSQL_diag_item"]["name"] for item in node.get("diag_items", ())]
            yield from ((name, "") if name else None for name in names)
        elif kind == "PLpgSQL_stmt_foreach_a" or kind not in _KNOWN:
            yield None
        elif kind in _READS or kind in _LOOPS:
            yield from _targets(node)


def _forgotten(state: State, statements: Any) -> State:
    """The state after statements of which nobody knows which ran."""
    for target in written({"body": statements or []}):
        if target is None:
            return _all_forgotten(state)
        state = _put(state, target, UNKNOWN)
    return {**state, "found": UNKNOWN}


_CALM = ("block", "if", "case", "return", "raise", "exit", "perform")
_KNOWN = _INERT | _READS | _LOOPS | {f"PLpgSQL_stmt_{name}" for name in _CALM}


def _all_forgotten(state: State) -> State:
    kept = {name: value for name, value in state.items() if value is Unknown.SHADOWED}
    return {**dict.fromkeys(state, UNKNOWN), **kept, "new": Record(), "old": Record()}
