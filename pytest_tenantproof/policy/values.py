"""Value expressions -> what they may be, as terms."""

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from pytest_tenantproof.policy.scope import Alts, Scope
from pytest_tenantproof.policy.terms import TRUE, Alt, Apply, Claim, Col, Const, NotUnderstood, Opaque, Term, given
from pytest_tenantproof.policy.types import cast
from pytest_tenantproof.policy.world import USER_EDITABLE

if TYPE_CHECKING:
    from pytest_tenantproof.policy.evaluate import Evaluator

__all__ = ["constant", "elements", "operator", "values"]

_CURRENT_USER = (
    enums.SQLValueFunctionOp.SVFOP_CURRENT_USER,
    enums.SQLValueFunctionOp.SVFOP_CURRENT_ROLE,
    enums.SQLValueFunctionOp.SVFOP_USER,
)
_PATH_OPERATORS = frozenset({"->", "->>", "#>", "#>>"})


def operator(node: Any) -> str:
    """The operator's name; qualified unless it is Postgres' own."""
    parts = [part.sval for part in node.name]
    return ".".join(parts[1:] if parts[0] == "pg_catalog" else parts)


def constant(node: Any) -> Const:
    if node.isnull:
        return Const(None)
    value = node.val
    if isinstance(value, ast.Boolean):
        return Const("true" if value.boolval else "false")
    return Const(
        str(next(v for v in (getattr(value, a, None) for a in ("sval", "ival", "fval", "bsval")) if v is not None))
    )


def values(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    """Everything the expression may be, NULL aside. What is not understood is Opaque, never an error."""
    try:
        return _values(ev, node, scope)
    except NotUnderstood as error:
        return (Alt(Opaque(str(error))),)


def _values(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    match node:
        case ast.A_Const():
            term = constant(node)
            return () if term.value is None else (Alt(term),)
        case ast.ColumnRef():
            return _column(node, scope)
        case ast.ParamRef():
            return _parameter(node, scope)
        case ast.TypeCast():
            return tuple(Alt(cast(ev.world, a.term, node.typeName), a.given) for a in values(ev, node.arg, scope))
        case ast.CoalesceExpr() | ast.MinMaxExpr():
            return tuple(dict.fromkeys(a for arg in node.args for a in values(ev, arg, scope)))
        case ast.CaseExpr():
            return _case(ev, node, scope)
        case _ if ev.is_condition(node):
            return ev.boolean(node, scope)
        case ast.SubLink():
            return _scalar(ev, node, scope)
        case ast.FuncCall():
            return ev.call(node, scope)
        case ast.A_Indirection():
            return _subscript(ev, node, scope)
        case ast.A_Expr():
            return _operator(ev, node, scope)
        case ast.SQLValueFunction() if node.op in _CURRENT_USER and (user := ev.current_user(scope)) is not None:
            return (Alt(user),)
        case ast.SQLValueFunction():
            name = enums.SQLValueFunctionOp(node.op).name.removeprefix("SVFOP_").lower()
            return (Alt(Opaque(f"depends on {name}, which does not tell tenants apart")),)
        case _:
            return (Alt(Opaque(f"{_kind(node)} is not modelled")),)


def _kind(node: Any) -> str:
    return type(node).__name__


def _column(node: Any, scope: Scope) -> Alts:
    parts = []
    for part in node.fields:
        if not isinstance(part, ast.String) or part.sval is None:
            raise NotUnderstood("compares a whole row")
        parts.append(part.sval)
    return scope.lookup(tuple(parts))


def _parameter(node: Any, scope: Scope) -> Alts:
    if 0 < node.number <= len(scope.positional):
        return scope.positional[node.number - 1]
    raise NotUnderstood(f"${node.number} is not known here")


def _case(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    found: list[Alt] = []
    for arm in node.args:
        found += given(values(ev, arm.result, scope), ev.when(node, arm, scope))
    if node.defresult is not None:
        found += values(ev, node.defresult, scope)
    return tuple(dict.fromkeys(found))


def _scalar(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    if node.subLinkType != enums.SubLinkType.EXPR_SUBLINK:
        return (Alt(Opaque("a subquery is used as a value")),)
    found: list[Alt] = []
    for branch in ev.branches(node.subselect, scope):
        found += given(values(ev, branch.targets[0], branch.scope), branch.where)
    return tuple(dict.fromkeys(found))


def _subscript(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    alts = values(ev, node.arg, scope)
    for step in node.indirection:
        if not isinstance(step, ast.A_Indices) or step.is_slice:
            raise NotUnderstood("takes a field or a slice of a value")
        index = _single(values(ev, step.uidx, scope))
        alts = tuple(Alt(_element(a.term, index), a.given) for a in alts)
    return alts


def _single(alts: Alts) -> Term:
    return alts[0].term if len(alts) == 1 and not alts[0].given else Opaque("is not one known value")


def _element(term: Term, index: Term) -> Term:
    if isinstance(term, Claim) and term.json and isinstance(index, Const):
        return _step(term, (str(index.value),), json=True)
    if isinstance(index, Const):
        match term:
            case Apply(name="storage.foldername", args=(path,)):
                return Apply("segment", (path, Const("/"), index))
            case Apply(name="string_to_array", args=(path, separator)):
                return Apply("segment", (path, separator, index))
            case Col() | Apply():
                return Apply("[]", (term, index))
    return Opaque("takes an element of an unknown value")


def _step(term: Claim, path: tuple[str, ...], *, json: bool) -> Term:
    whole = (*term.path, *path)
    if editable := USER_EDITABLE.intersection(whole):
        return Opaque(f"reads {min(editable)}, which users can edit themselves")
    return Claim(term.root, whole, json)


def json_path(term: Term, path: Alts, *, text: bool, deep: bool) -> Term:
    """JSON navigation by ->, ->>, #>, #>> and the functions that do the same."""
    step = _single(path)
    if not isinstance(step, Const) or step.value is None:
        return Opaque("a JSON key is not constant")
    keys = tuple(step.value.strip("{}").split(",")) if deep else (step.value,)
    keys = tuple(key.strip().strip('"') for key in keys) if deep else keys
    if isinstance(term, Claim):
        return _step(term, keys, json=not text) if term.json else Opaque("takes a JSON key of text")
    if isinstance(term, Opaque):
        return term
    if USER_EDITABLE.intersection(keys):
        return Opaque(f"reads {keys[0]}, which users can edit themselves")
    for key in keys:
        term = Apply("->", (term, Const(key)))
    return Apply("->>", (term,)) if text else term


def _operator(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    name = operator(node)
    if node.kind == enums.A_Expr_Kind.AEXPR_NULLIF:
        return values(ev, node.lexpr, scope)
    if node.kind != enums.A_Expr_Kind.AEXPR_OP or node.lexpr is None:
        raise NotUnderstood(f"{name} is not modelled")
    if name in _PATH_OPERATORS:
        path = values(ev, node.rexpr, scope)
        options = {"text": name.endswith(">>"), "deep": name.startswith("#")}
        return tuple(Alt(json_path(a.term, path, **options), a.given) for a in values(ev, node.lexpr, scope))
    if name == "||":
        return concatenate(ev, (node.lexpr, node.rexpr), scope)
    raise NotUnderstood(f"operator {name} is not modelled")


def concatenate(ev: "Evaluator", nodes: Any, scope: Scope) -> Alts:
    """Text put together; constants that meet are joined, so that spellings compare equal."""
    alts: Alts = (Alt(Apply("||")),)
    for node in nodes:
        more = values(ev, node, scope)
        alts = tuple(_joined(a, b) for a in alts for b in more)
        alts = given(alts, TRUE)
    return tuple(
        Alt(a.term.args[0], a.given) if isinstance(a.term, Apply) and len(a.term.args) == 1 else a for a in alts
    )


def _joined(left: Alt, right: Alt) -> Alt:
    if isinstance(left.term, Opaque) or isinstance(right.term, Opaque):
        bad = left.term if isinstance(left.term, Opaque) else right.term
        return Alt(bad, (*left.given, *right.given))
    assert isinstance(left.term, Apply)
    parts = list(left.term.args)
    for part in right.term.args if isinstance(right.term, Apply) and right.term.name == "||" else (right.term,):
        if part == Const(""):
            continue
        if parts and isinstance(part, Const) and isinstance(parts[-1], Const):
            parts[-1] = Const((parts[-1].value or "") + (part.value or ""))
        else:
            parts.append(part)
    return Alt(Apply("||", tuple(parts)), (*left.given, *right.given))


def elements(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    """Everything that an element of an array expression may be."""
    match node:
        case ast.A_ArrayExpr():
            return tuple(a for item in node.elements or () for a in values(ev, item, scope))
        case ast.TypeCast():
            inner = node.typeName
            plain = ast.TypeName(names=inner.names, typmods=inner.typmods, typemod=-1)
            return tuple(Alt(cast(ev.world, a.term, plain), a.given) for a in elements(ev, node.arg, scope))
        case ast.A_Const():
            return _literal(constant(node))
        case ast.CoalesceExpr():
            return tuple(a for arg in node.args for a in elements(ev, arg, scope))
        case ast.SubLink() if node.subLinkType == enums.SubLinkType.ARRAY_SUBLINK:
            return ev.rows_of(node.subselect, scope)
        case ast.SubLink() if node.subLinkType == enums.SubLinkType.EXPR_SUBLINK:
            return ev.array_rows(node.subselect, scope)
        case ast.FuncCall():
            return ev.call_elements(node, scope)
        case _:
            raise NotUnderstood("the elements of this array are not known")


def _literal(text: Const) -> Alts:
    if text.value is None or text.value == "{}":
        return ()
    if not (text.value.startswith("{") and text.value.endswith("}")) or "\\" in text.value or '"' in text.value:
        raise NotUnderstood("an array literal is not modelled")
    return tuple(Alt(Const(part)) for part in text.value[1:-1].split(",") if part.strip().upper() != "NULL")
