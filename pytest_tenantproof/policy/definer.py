"""SECURITY DEFINER functions: does the caller learn anything but what is about itself?"""

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

from pglast import ast, enums

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.policy.calls import search_path
from pytest_tenantproof.policy.closure import Facts
from pytest_tenantproof.policy.evaluate import Evaluator
from pytest_tenantproof.policy.parse import calls, expression, function_body, statement
from pytest_tenantproof.policy.plpgsql import returns
from pytest_tenantproof.policy.query import branches
from pytest_tenantproof.policy.scope import Alts, Scope
from pytest_tenantproof.policy.terms import Alt, Col, NotUnderstood, both
from pytest_tenantproof.policy.trust import Trust
from pytest_tenantproof.policy.world import World

__all__ = ["leak", "statements"]

# Builtins that only compute on their arguments, or on rows that are judged by themselves.
_CALM = frozenset(
    """
    abs age array_agg array_append array_length array_position array_to_string array_to_json avg bool_and bool_or btrim
    cardinality ceil coalesce concat concat_ws count current_setting date_part date_trunc decode encode every extract
    floor format gen_random_uuid greatest initcap json_agg json_array_elements json_array_elements_text json_build_array
    json_build_object json_extract_path_text json_object_agg jsonb_agg jsonb_array_elements jsonb_array_elements_text
    jsonb_array_length jsonb_build_array jsonb_build_object jsonb_extract_path_text jsonb_object_agg jsonb_typeof
    jsonb_set least left length lower ltrim max md5 min now nullif percentile_cont rank regexp_replace replace right
    round row_number row_to_json rtrim split_part starts_with string_agg string_to_array substr substring sum timezone
    to_char to_date to_json to_jsonb to_timestamp trim unnest upper lag lead dense_rank to_tsvector plainto_tsquery
    """.split()
)
_WRITES = re.compile(r"\s*(insert|update|delete|merge|truncate)\s", re.I)


def leak(world: World, trust: Trust, function: Function) -> str:
    """Why the function may tell its caller about others; "" where each row it reads is the caller's own."""
    if function.kind != "function" or function.returns == "refcursor":
        return "is not a plain function"
    ev = Evaluator(world, nominal=frozenset(trust.nominal))
    try:
        _follow(ev, function, set(trust.relied_on), past_policies=False)
    except NotUnderstood as error:
        return str(error)
    if not ev.past_policies and function.arguments and function.signature not in trust.relied_on:
        return "reads no row that is tied to the caller"
    for rows, where, guards in ev.selects:
        for row in ev.past_policies.intersection(rows):
            try:
                ways = both((where, *guards))
            except NotUnderstood as error:
                return str(error)
            for conj in ways:
                facts = Facts(world, conj, ev.rows, tenants=trust.tenants, users=trust.users)
                if not (_is_callers(facts, row) or _goes_with_callers(facts, row, rows)):
                    return f"reads rows of {ev.rows[row].name} that are not provably the caller's"
    return ""


def _is_callers(facts: Facts, row: int) -> bool:
    return facts.is_own(row) or facts.is_bound(row)


def _goes_with_callers(facts: Facts, row: int, rows: Iterable[int]) -> bool:
    """Whether it is a global table's (what a role may do, what a plan allows), joined to a row of the caller's own."""
    return facts.world.is_global(facts.rows[row]) and any(_is_callers(facts, other) for other in rows if other != row)


def _follow(ev: Evaluator, function: Function, seen: set[str], *, past_policies: bool) -> None:
    """Reads every statement of the body. Raises NotUnderstood for what is not modelled."""
    if function.signature in seen:
        return
    seen.add(function.signature)
    body = function_body(function)
    passed = tuple(_argument(ev, function, at) for at in range(len(function.arguments)))
    pinned = function.setting("search_path")
    past = past_policies or function.security_definer
    scope = Scope(
        parameters={name: passed[at] for at, name in enumerate(body.parameters) if name and at < len(passed)},
        positional=passed,
        invoker=not past,
        path=ev.world.default_path if pinned is None else search_path(pinned),
        depth=1,
        function=function.signature,
    )
    texts = statements(function)
    for node in texts:
        for called in _called(ev, node, scope):
            _follow(ev, called, seen, past_policies=past)
    if body.select is not None:
        _select(ev, body.select, scope)
        return
    for result in returns(ev, body.block, scope, visit=partial(_visit, ev)):
        with ev.under(result.guard):
            if not result.query:
                ev.values(result.node, result.scope)


def _argument(ev: Evaluator, function: Function, at: int) -> Alts:
    """A value that the caller chooses, the same wherever the body names it. Its number is no row's."""
    names = function.argument_names
    return (Alt(Col(-ev.fresh(), names[at] if at < len(names) else "", function.arguments[at])),)


def _visit(ev: Evaluator, kind: str, body: dict[str, Any], scope: Scope) -> None:
    """Reads the subqueries of a statement's own expressions; those of the statements inside it come by themselves."""
    if kind == "PLpgSQL_stmt_block":
        return
    if kind == "PLpgSQL_stmt_if":
        texts = [*_texts(body["cond"]), *(t for arm in body.get("elsif_list", ()) for t in _conditions(arm))]
    else:
        texts = _texts(body)
    for text in texts:
        _subqueries(ev, _parsed(text), scope)


def _conditions(arm: Any) -> list[str]:
    return _texts(arm["PLpgSQL_if_elsif"]["cond"])


def statements(function: Function) -> tuple[Any, ...]:
    """The trees of everything that a body evaluates. Raises NotUnderstood for what is not modelled."""
    body = function_body(function)
    return (body.select,) if body.select is not None else tuple(_parsed(text) for text in _texts(body.block))


def _called(ev: Evaluator, node: Any, scope: Scope) -> list[Function]:
    """The functions of this database that a tree calls. Raises NotUnderstood for one that may do anything."""
    found: list[Function] = []
    for name, count in calls(node):
        own = name[1:] if name[0] == "pg_catalog" else name
        candidates = ev.world.candidates(own, count, scope.path)
        if not candidates and not (len(own) == 1 and own[0] in _CALM):
            raise NotUnderstood(f"calls {'.'.join(name)}(), which is not known to be harmless")
        found += [f for f in candidates if f.signature not in ev.nominal]
    return found


def _select(ev: Evaluator, select: Any, scope: Scope) -> None:
    """Reads a SELECT and every subquery in it, also those whose value nobody can follow."""
    if not isinstance(select, ast.SelectStmt):
        raise NotUnderstood("a statement that is not a SELECT")
    if select.op != enums.SetOperation.SETOP_NONE:
        for arm in (select.larg, select.rarg):
            _select(ev, arm, scope)
        return
    for cte in select.withClause.ctes if select.withClause is not None else ():
        _select(ev, cte.ctequery, scope)
    for item in select.fromClause or ():
        _source(ev, item, scope)
    if select.valuesLists:
        raise NotUnderstood("a VALUES list")
    branch = branches(ev, select, scope, collapsed=True)[0]
    for name in select:
        if name not in ("fromClause", "withClause", "larg", "rarg"):
            _subqueries(ev, getattr(select, name), branch.scope)


def _source(ev: Evaluator, item: Any, scope: Scope) -> None:
    if isinstance(item, ast.JoinExpr):
        _source(ev, item.larg, scope)
        _source(ev, item.rarg, scope)
    elif isinstance(item, ast.RangeSubselect):
        _select(ev, item.subquery, scope)
    elif isinstance(item, ast.RangeFunction):
        _subqueries(ev, item.functions, scope)


def _subqueries(ev: Evaluator, node: Any, scope: Scope) -> None:
    """Reads the subqueries directly below a node."""
    if isinstance(node, ast.SubLink):
        _subqueries(ev, node.testexpr, scope)
        _select(ev, node.subselect, scope)
    elif isinstance(node, ast.SelectStmt):
        _select(ev, node, scope)
    elif isinstance(node, ast.Node):
        for name in node:
            _subqueries(ev, getattr(node, name), scope)
    elif isinstance(node, tuple):
        for item in node:
            _subqueries(ev, item, scope)


def _texts(block: Any) -> list[str]:
    """Every SQL text in a PL/pgSQL block."""
    if isinstance(block, dict):
        own = [block["query"]] if isinstance(block.get("query"), str) else []
        return own + [text for value in block.values() for text in _texts(value)]
    return [text for item in block for text in _texts(item)] if isinstance(block, list) else []


def _parsed(text: str) -> Any:
    if text.lstrip("( \n\t").upper().startswith(("SELECT", "WITH")):
        return statement(text)
    if _WRITES.match(text):
        raise NotUnderstood("writes, and only reading can be proven")
    _, assigned, value = text.partition(":=")
    return expression(value if assigned else text)
