"""Function calls: what Postgres' own do is known here; the bodies of others are followed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pglast import ast

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.policy.parse import Body, function_body
from pytest_tenantproof.policy.plpgsql import returns
from pytest_tenantproof.policy.query import array_of, branches, column
from pytest_tenantproof.policy.scope import Alts, Scope
from pytest_tenantproof.policy.terms import (
    Alt,
    Apply,
    Claim,
    Const,
    Dnf,
    NotUnderstood,
    Opaque,
    Term,
    Unknown,
    both,
    either,
    given,
)
from pytest_tenantproof.policy.values import concatenate, elements, json_path, values

if TYPE_CHECKING:
    from pytest_tenantproof.policy.evaluate import Evaluator

__all__ = ["call", "call_elements", "predicate", "search_path", "targets"]

_DEPTH = 8
_PURE = frozenset(
    [
        "lower",
        "upper",
        "btrim",
        "ltrim",
        "rtrim",
        "left",
        "right",
        "substr",
        "substring",
        "replace",
        "md5",
        "reverse",
        "to_jsonb",
        "string_to_array",
        "encode",
        "decode",
        "regexp_replace",
    ]
)
_ENVIRONMENT = {
    "now": "the time",
    "clock_timestamp": "the time",
    "statement_timestamp": "the time",
    "transaction_timestamp": "the time",
    "random": "chance",
    "gen_random_uuid": "chance",
    "inet_client_addr": "the client's address",
    "inet_client_port": "the client's address",
    "pg_backend_pid": "the session",
    "txid_current": "the transaction",
    "session_user": "the login role",
}
_PATHS = frozenset({"jsonb_extract_path_text", "json_extract_path_text", "jsonb_extract_path", "json_extract_path"})
_ELEMENTS = frozenset({"jsonb_array_elements_text", "json_array_elements_text"})


def _name(node: Any) -> tuple[str, ...]:
    parts = tuple(part.sval for part in node.funcname)
    return parts[1:] if parts[0] == "pg_catalog" else parts


def targets(ev: "Evaluator", node: Any, scope: Scope) -> tuple[Function, ...]:
    """User functions that a call may mean. Unqualified names are Postgres' own first."""
    name = _name(node)
    return ev.world.candidates(name, len(node.args or ()), scope.path)


def call(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    """What a call may return."""
    name = _name(node)
    if node.over is not None or node.agg_filter is not None:
        raise NotUnderstood("a window or filtered aggregate")
    if found := targets(ev, node, scope):
        return tuple(dict.fromkeys(a for f in found for a in _of_function(ev, f, node, scope)))
    if len(name) > 1:
        raise NotUnderstood(f"{'.'.join(name)}() is not a function that is known")
    return _builtin(ev, name[0], node, scope)


def _builtin(ev: "Evaluator", name: str, node: Any, scope: Scope) -> Alts:
    args: Any = _spread(node)
    if name == "current_setting":
        return (_setting(ev, args, scope),)
    if name == "concat":
        return concatenate(ev, args, scope)
    if name == "format":
        return concatenate(ev, _formatted(args), scope)
    if name in _PATHS:
        return _extract(ev, name, args, scope)
    if name in _ELEMENTS:
        alts = values(ev, args[0], scope)
        return tuple(Alt(_members(ev, a.term), a.given) for a in alts)
    if name == "unnest" and len(args) == 1:
        return elements(ev, args[0], scope)
    if name == "split_part":
        return _pure(ev, "segment", args, scope)
    if name in _PURE:
        return _pure(ev, name, args, scope)
    if name in _ENVIRONMENT:
        raise NotUnderstood(f"depends on {_ENVIRONMENT[name]}: {name}()")
    raise NotUnderstood(f"{name}() is not modelled")


def _spread(node: Any) -> Any:
    """The arguments, those of a VARIADIC array one by one."""
    args: Any = node.args or ()
    if not node.func_variadic:
        return args
    if not isinstance(args[-1], ast.A_ArrayExpr):
        raise NotUnderstood("a variadic array that is not written out")
    return (*args[:-1], *(args[-1].elements or ()))


def _members(ev: "Evaluator", term: Term) -> Term:
    # Each call gives any of several values, so two of them must never be taken for one value.
    if isinstance(term, Opaque):
        return term
    return Apply("elements", (term, Const(str(ev.fresh()))))


def _pure(ev: "Evaluator", name: str, args: Any, scope: Scope) -> Alts:
    parts: list[Term] = []
    for arg in args:
        alts = values(ev, arg, scope)
        if len(alts) != 1 or alts[0].given:
            raise NotUnderstood(f"{name}() of something that is not one known value")
        if isinstance(alts[0].term, Opaque):
            return alts
        parts.append(alts[0].term)
    return (Alt(Apply(name, tuple(parts))),)


def _setting(ev: "Evaluator", args: Any, scope: Scope) -> Alt:
    alts = values(ev, args[0], scope)
    term = alts[0].term if len(alts) == 1 else None
    if not isinstance(term, Const) or not term.value:
        raise NotUnderstood("reads a setting whose name is computed")
    name = term.value.lower()
    ev.settings_read.add(name)
    if not ev.world.trusted_setting(name):
        return Alt(Opaque(f"reads the setting {name}, which the settings do not trust: a client may set it"))
    root, path = ev.world.claim_of(name)
    return Alt(Claim(root, path))


def _extract(ev: "Evaluator", name: str, args: Any, scope: Scope) -> Alts:
    found = values(ev, args[0], scope)
    keys = args[1:]
    for at, key in enumerate(keys):
        text = name.endswith("_text") and at == len(keys) - 1
        path = values(ev, key, scope)
        found = tuple(Alt(json_path(a.term, path, text=text, deep=False), a.given) for a in found)
    return found


def _formatted(args: Any) -> Iterator[Any]:
    """format('a%sb', x) as what it joins. Raises NotUnderstood for other placeholders."""
    first = args[0].arg if isinstance(args[0], ast.TypeCast) else args[0]
    if not isinstance(first, ast.A_Const) or first.isnull or not isinstance(first.val, ast.String):
        raise NotUnderstood("format() with a computed pattern")
    pieces = str(first.val.sval).split("%s")
    if any("%" in piece for piece in pieces) or len(pieces) != len(args):
        raise NotUnderstood("format() with other placeholders than %s")
    for piece, arg in zip(pieces, (*args[1:], None), strict=True):
        yield ast.A_Const(isnull=False, val=ast.String(sval=piece))
        if arg is not None:
            yield arg


def _enter(ev: "Evaluator", function: Function, node: Any, scope: Scope) -> tuple[Body, Scope]:
    """The function's body and a scope with its arguments. Raises NotUnderstood."""
    if scope.depth >= _DEPTH:
        raise NotUnderstood("calls that go too deep")
    ev.relied_on.add(function.signature)
    body = function_body(function)
    args = node.args or ()
    if any(isinstance(arg, ast.NamedArgExpr) for arg in args) or node.func_variadic:
        raise NotUnderstood(f"{function.name}() is called with named or variadic arguments")
    passed = [values(ev, arg, scope) for arg in args]
    passed += [(Alt(Opaque("a default argument")),)] * (len(function.arguments) - len(args))
    named = {name: passed[i] for i, name in enumerate(body.parameters) if name and i < len(passed)}
    pinned = function.setting("search_path")
    inner = Scope(
        parameters=named,
        positional=tuple(passed),
        invoker=scope.invoker and not function.security_definer,
        path=ev.world.default_path if pinned is None else search_path(pinned),
        depth=scope.depth + 1,
        function=function.signature,
    )
    return body, inner


def search_path(value: str) -> tuple[str, ...]:
    """The schemas of a search_path setting, in order."""
    parts = (part.strip().strip('"').strip("'") for part in value.split(","))
    return tuple(part for part in parts if part)


def _of_function(ev: "Evaluator", function: Function, node: Any, scope: Scope) -> Alts:
    if function.signature in ev.nominal and not node.args:
        ev.relied_on.add(function.signature)
        return (Alt(Apply(function.signature)),)
    try:
        found = _results(ev, function, node, scope)
    except NotUnderstood as error:
        found = (Alt(Opaque(f"{function.signature}: {error}")),)
    if any(isinstance(a.term, Opaque) for a in found) and _same_for_same(function):
        return _named_result(ev, function, node, scope) or _blamed(function, found)
    return _blamed(function, found)


def _blamed(function: Function, found: Alts) -> Alts:
    """The same, where unknown values say which function they come from."""
    return tuple(
        Alt(Opaque(f"{function.signature}: {a.term.reason}"), a.given)
        if isinstance(a.term, Opaque) and function.signature not in a.term.reason
        else a
        for a in found
    )


def _same_for_same(function: Function) -> bool:
    return function.volatility == "immutable" and "SETOF" not in function.returns and bool(function.arguments)


def _named_result(ev: "Evaluator", function: Function, node: Any, scope: Scope) -> Alts:
    """An immutable function of columns is a term of its own, e.g. storage.foldername(name)."""
    try:
        return _pure(ev, function.name, node.args or (), scope)
    except NotUnderstood:
        return ()


def _results(ev: "Evaluator", function: Function, node: Any, scope: Scope) -> Alts:
    body, inner = _enter(ev, function, node, scope)
    if body.select is not None:
        return column(ev, body.select, inner)
    found: list[Alt] = []
    for result in returns(ev, body.block, inner):
        with ev.under(result.guard):
            read = column if result.query else values
            found += given(read(ev, result.node, result.scope), result.guard)
    return tuple(dict.fromkeys(found))


def predicate(ev: "Evaluator", node: Any, scope: Scope, *, sign: bool) -> Dnf | None:
    """When a call is true (or false, by `sign`); None where it is no user function's."""
    found = targets(ev, node, scope)
    if not found:
        return None
    return either(_when(ev, function, node, scope, sign) for function in found)


def _when(ev: "Evaluator", function: Function, node: Any, scope: Scope, sign: bool) -> Dnf:
    try:
        body, inner = _enter(ev, function, node, scope)
        if body.select is not None:
            return _row(ev, body.select, inner, sign)
        arms = []
        for result in returns(ev, body.block, inner):
            with ev.under(result.guard):
                if result.query:
                    arms.append(both((result.guard, _row(ev, result.node, result.scope, sign))))
                else:
                    arms.append(both((result.guard, ev.truth(result.node, result.scope, sign=sign))))
        return _blame(function, either(arms))
    except NotUnderstood as error:
        return ((Unknown(f"{function.signature}: {error}", node),),)


def _row(ev: "Evaluator", select: Any, scope: Scope, sign: bool) -> Dnf:
    found = branches(ev, select, scope)
    return either(both((b.where, ev.truth(b.targets[0], b.scope, sign=sign))) for b in found)


def _blame(function: Function, found: Dnf) -> Dnf:
    return tuple(conj or (Unknown(f"{function.signature} may be true for anybody"),) for conj in found)


def call_elements(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    """What the elements of an array that a call returns may be."""
    found: list[Alt] = []
    for function in targets(ev, node, scope):
        body, inner = _enter(ev, function, node, scope)
        if body.select is not None:
            found += array_of(ev, body.select, inner)
            continue
        for result in returns(ev, body.block, inner):
            found += given(elements(ev, result.node, result.scope), result.guard)
    if not found:
        raise NotUnderstood("the elements of this array are not known")
    return tuple(dict.fromkeys(found))
