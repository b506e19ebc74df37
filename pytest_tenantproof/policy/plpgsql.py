"""PL/pgSQL bodies -> what they may return, by following assignments, IF, RAISE and RETURN."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pglast import ast

from pytest_tenantproof.policy.parse import expression, statement
from pytest_tenantproof.policy.scope import Alts, Scope
from pytest_tenantproof.policy.terms import TRUE, Alt, Dnf, NotUnderstood, Opaque, both, either, given

if TYPE_CHECKING:
    from pytest_tenantproof.policy.evaluate import Evaluator

__all__ = ["Return", "Visit", "returns"]

Visit = Callable[[str, dict[str, Any], Scope], None]

_ERROR = 21


@dataclass(frozen=True, slots=True)
class Return:
    """One RETURN: its expression (or query), the variables at that point, and when it is reached."""

    node: Any
    scope: Scope
    guard: Dnf
    query: bool = False


@dataclass(slots=True)
class _Path:
    """One way through the statements so far."""

    scope: Scope
    guard: Dnf = TRUE


@dataclass(slots=True)
class _Run:
    ev: "Evaluator"
    visit: Visit | None
    found: list[Return] = field(default_factory=list)


def returns(ev: "Evaluator", function: Any, scope: Scope, visit: Visit | None = None) -> tuple[Return, ...]:
    """Every value the function may return. Raises NotUnderstood for statements that are not modelled.

    `visit` is shown each statement (its kind and body) with the variables as they are when it is reached.
    """
    try:
        return _returns(ev, function, scope, visit)
    except (KeyError, IndexError, TypeError) as error:
        # A statement of another shape than those that are modelled, e.g. RETURN QUERY EXECUTE.
        raise NotUnderstood("a PL/pgSQL statement that is not modelled") from error


def _returns(ev: "Evaluator", function: Any, scope: Scope, visit: Visit | None) -> tuple[Return, ...]:
    run = _Run(ev, visit)
    path = _Path(scope)
    for datum in function["datums"]:
        _declare(run, datum, path)
    _block(run, function["action"]["PLpgSQL_stmt_block"], [path])
    return tuple(run.found)


def _declare(run: _Run, datum: dict[str, Any], path: _Path) -> None:
    body = datum.get("PLpgSQL_var")
    if body is None or body["refname"] in path.scope.parameters:
        return
    default = body.get("default_val")
    if default and run.visit:
        run.visit("PLpgSQL_var", body, path.scope)
    alts = _alts(run, default, path) if default else ()
    present = bool(default) and run.ev.never_null(expression(_text(default)), path.scope)
    path.scope = path.scope.bind(body["refname"], alts, present=present)


def _text(item: dict[str, Any]) -> str:
    return str(item["PLpgSQL_expr"]["query"])


def _alts(run: _Run, item: dict[str, Any], path: _Path) -> Alts:
    return run.ev.values(expression(_text(item)), path.scope)


def _block(run: _Run, block: dict[str, Any], paths: list[_Path]) -> list[_Path]:
    after = _statements(run, block.get("body", ()), paths)
    handlers = block.get("exceptions", {}).get("PLpgSQL_exception_block", {}).get("exc_list", ())
    for handler in handlers:
        # An error may strike anywhere, so a handler starts from any state: nothing is known in it.
        start = [_Path(_forgotten(path.scope)) for path in paths]
        after = after + _statements(run, handler["PLpgSQL_exception"].get("action", ()), start)
    return after


def _forgotten(scope: Scope) -> Scope:
    unknown: Alts = (Alt(Opaque("is read in an exception handler")),)
    passed = set(scope.positional)
    kept = {name: alts if alts in passed else unknown for name, alts in scope.parameters.items()}
    return replace(scope, parameters=kept, found=TRUE, present=frozenset())


def _statements(run: _Run, statements: Any, paths: list[_Path]) -> list[_Path]:
    for item in statements:
        if not paths:
            return paths
        kind, body = next(iter(item.items()))
        paths = [after for path in paths for after in _reached(run, kind, body, path)]
    return paths


def _reached(run: _Run, kind: str, body: dict[str, Any], path: _Path) -> list[_Path]:
    with run.ev.under(path.guard):
        if run.visit:
            run.visit(kind, body, path.scope)
        return _statement(run, kind, body, path)


def _statement(run: _Run, kind: str, body: dict[str, Any], path: _Path) -> list[_Path]:
    match kind:
        case "PLpgSQL_stmt_block":
            return _block(run, body, [path])
        case "PLpgSQL_stmt_return":
            return _return(run, body, path)
        case "PLpgSQL_stmt_return_query":
            run.found.append(Return(statement(_text(body["query"])), path.scope, path.guard, query=True))
            return [path]
        case "PLpgSQL_stmt_raise":
            return [] if body.get("elog_level", _ERROR) >= _ERROR else [path]
        case "PLpgSQL_stmt_if":
            return _if(run, body, path)
        case "PLpgSQL_stmt_assign":
            return [_assign(run, body, path)]
        case "PLpgSQL_stmt_execsql":
            return [_select_into(run, body, path)]
        case "PLpgSQL_stmt_perform":
            return [_perform(run, body, path)]
        case _:
            raise NotUnderstood(f"{kind.removeprefix('PLpgSQL_stmt_').upper()} in PL/pgSQL")


def _return(run: _Run, body: dict[str, Any], path: _Path) -> list[_Path]:
    if "expr" in body:
        run.found.append(Return(expression(_text(body["expr"])), path.scope, path.guard))
    elif "retvarno" in body:
        raise NotUnderstood("RETURN of a variable")
    return []


def _if(run: _Run, body: dict[str, Any], path: _Path) -> list[_Path]:
    arms = [(body["cond"], body.get("then_body", ()))]
    arms += [
        (i["PLpgSQL_if_elsif"]["cond"], i["PLpgSQL_if_elsif"].get("stmts", ())) for i in body.get("elsif_list", ())
    ]
    after: list[_Path] = []
    rest = path.guard
    for condition, statements in arms:
        node = expression(_text(condition))
        holds = both((rest, run.ev.truth(node, path.scope, sign=True)))
        if holds:
            after += _statements(run, statements, [_Path(path.scope, holds)])
        rest = both((rest, run.ev.fails(node, path.scope)))
    if rest:
        after += _statements(run, body.get("else_body", ()), [_Path(path.scope, rest)])
    return after


def _assign(run: _Run, body: dict[str, Any], path: _Path) -> _Path:
    name, _, value = _text(body["expr"]).partition("=")
    name = name.strip().removesuffix(":").strip()
    if name not in path.scope.parameters:
        raise NotUnderstood("an assignment to a field or an element")
    node = expression(value)
    present = run.ev.never_null(node, path.scope)
    return _Path(path.scope.bind(name, run.ev.values(node, path.scope), present=present), path.guard)


def _select_into(run: _Run, body: dict[str, Any], path: _Path) -> _Path:
    select = statement(_text(body["sqlstmt"]))
    branches = run.ev.branches(select, path.scope, collapsed=True)
    exists = either(TRUE if branch.collapses else branch.where for branch in branches)
    scope = replace(path.scope, found=exists)
    if body.get("into"):
        target = body["target"].get("PLpgSQL_row")
        if target is None:
            raise NotUnderstood("SELECT INTO a record")
        for at, into in enumerate(target["fields"]):
            found: list[Alt] = []
            for branch in branches:
                if branch.collapses:
                    found.append(Alt(Opaque("is an aggregate, which is there even where no row is")))
                elif at < len(branch.targets):
                    found += given(run.ev.values(branch.targets[at], branch.scope), branch.where)
            present = _one_row(select) and run.ev.never_null(select.targetList[at].val, path.scope)
            scope = scope.bind(into["name"], tuple(found), present=present)
    return _Path(scope, path.guard)


def _one_row(select: Any) -> bool:
    """Whether a SELECT gives one row whatever there is: it reads no table."""
    return not any(
        getattr(select, name)
        for name in ("fromClause", "whereClause", "havingClause", "limitCount", "limitOffset", "valuesLists", "op")
    )


def _perform(run: _Run, body: dict[str, Any], path: _Path) -> _Path:
    text = _text(body["expr"])
    select = statement(text if text.lstrip().upper().startswith(("SELECT", "WITH")) else f"SELECT {text}")
    if isinstance(select, ast.SelectStmt) and not select.fromClause:
        return _Path(replace(path.scope, found=TRUE), path.guard)
    exists = either(branch.where for branch in run.ev.branches(select, path.scope))
    return _Path(replace(path.scope, found=exists), path.guard)
