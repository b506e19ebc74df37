"""Conditions -> when they hold, as a disjunction of facts that is never narrower than the truth."""

from itertools import product
from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from pytest_tenantproof.policy.parse import function_body
from pytest_tenantproof.policy.query import is_count
from pytest_tenantproof.policy.scope import Alts, Scope
from pytest_tenantproof.policy.terms import (
    FALSE,
    TRUE,
    Alt,
    Claim,
    Conj,
    Const,
    Dnf,
    Equal,
    NotNull,
    NotUnderstood,
    Opaque,
    Term,
    Unknown,
    both,
    either,
)
from pytest_tenantproof.policy.types import never_equal
from pytest_tenantproof.policy.values import constant, elements, operator, values

if TYPE_CHECKING:
    from pytest_tenantproof.policy.evaluate import Evaluator

__all__ = ["fails", "is_condition", "never_null", "truth", "when"]

_BOOL = {"t": True, "true": True, "yes": True, "on": True, "1": True, "y": True}
_BOOL |= {"f": False, "false": False, "no": False, "off": False, "0": False, "n": False}
_Kind = enums.A_Expr_Kind
_Test = enums.BoolTestType
_ABOVE_ZERO = {(">", "0"), (">=", "1"), ("<>", "0"), ("!=", "0")}
_MIRRORED = {">": "<", "<": ">", ">=": "<=", "<=": ">=", "<>": "<>", "!=": "!=", "=": "="}
_COMPARES = frozenset({"=", "<>", "!=", "<", ">", "<=", ">=", "~~", "!~~", "~", "!~", "~*", "?", "@>", "<@", "&&"})


def truth(ev: "Evaluator", node: Any, scope: Scope, *, sign: bool) -> Dnf:
    """When the condition is true (false, with sign=False). NULL is neither."""
    try:
        return _truth(ev, node, scope, sign)
    except NotUnderstood as error:
        return ((Unknown(str(error), node),),)


def _truth(ev: "Evaluator", node: Any, scope: Scope, sign: bool) -> Dnf:
    match node:
        case ast.BoolExpr():
            return _bool(ev, node, scope, sign)
        case ast.A_Const() | ast.TypeCast(arg=ast.A_Const()):
            return _constant(node, sign)
        case ast.A_Expr():
            return _comparison(ev, node, scope, sign)
        case ast.NullTest():
            return _null_test(ev, node, scope, sign)
        case ast.BooleanTest():
            return _boolean_test(ev, node, scope, sign)
        case ast.SubLink():
            return _sublink(ev, node, scope, sign)
        case ast.CaseExpr():
            return _case(ev, node, scope, sign)
        case ast.CoalesceExpr():
            return _coalesce(ev, node, scope, sign)
        case ast.FuncCall():
            found = ev.predicate(node, scope, sign=sign)
            return _unknown("may be true for anybody", node) if found is None else found
        case ast.ColumnRef() | ast.ParamRef():
            return _variable(ev, node, scope, sign)
        case _:
            return _unknown("is not modelled", node)


def _unknown(reason: str, node: Any) -> Dnf:
    return ((Unknown(reason, node),),)


def _bool(ev: "Evaluator", node: Any, scope: Scope, sign: bool) -> Dnf:
    if node.boolop == enums.BoolExprType.NOT_EXPR:
        return truth(ev, node.args[0], scope, sign=not sign)
    parts = [truth(ev, arg, scope, sign=sign) for arg in node.args]
    joins = (node.boolop == enums.BoolExprType.AND_EXPR) == sign
    return both(parts) if joins else either(parts)


def _constant(node: Any, sign: bool) -> Dnf:
    value = constant(node.arg if isinstance(node, ast.TypeCast) else node).value
    if value is None:
        return FALSE
    known = _BOOL.get(value.strip().lower())
    if known is None:
        return _unknown("is not a truth value", node)
    return TRUE if known == sign else FALSE


def _comparison(ev: "Evaluator", node: Any, scope: Scope, sign: bool) -> Dnf:
    name = operator(node)
    match node.kind:
        case _Kind.AEXPR_OP if node.lexpr is not None:
            return _operator(ev, node, name, scope, sign)
        case _Kind.AEXPR_OP_ANY if name == "=" and sign:
            return _member(ev, node.lexpr, elements(ev, node.rexpr, scope), scope, node)
        case _Kind.AEXPR_OP_ALL if name in ("<>", "!=") and not sign:
            return _member(ev, node.lexpr, elements(ev, node.rexpr, scope), scope, node)
        case _Kind.AEXPR_IN if (name == "=") == sign:
            return either(equal(ev, node.lexpr, item, scope, node) for item in node.rexpr)
        case _Kind.AEXPR_NOT_DISTINCT | _Kind.AEXPR_DISTINCT:
            if sign == (node.kind == _Kind.AEXPR_NOT_DISTINCT):
                nulls = both((null(ev, node.lexpr, scope), null(ev, node.rexpr, scope)))
                return either((equal(ev, node.lexpr, node.rexpr, scope, node), nulls))
            return _unknown("holds for other rows", node)
        case _:
            return _unknown(f"operator {name} does not tie the row to the caller", node)


def _operator(ev: "Evaluator", node: Any, name: str, scope: Scope, sign: bool) -> Dnf:
    for literal, other in ((node.rexpr, node.lexpr), (node.lexpr, node.rexpr)):
        if name in ("=", "<>", "!=") and (value := _literal_truth(literal)) is not None:
            return truth(ev, other, scope, sign=(value == (name == "=")) == sign)
    if (name == "=" and sign) or (name in ("<>", "!=") and not sign):
        return equal(ev, node.lexpr, node.rexpr, scope, node)
    counted = _counted(ev, node, name, scope) if sign else None
    if counted is not None:
        return counted
    if name == "?" and sign:
        return _member(ev, node.rexpr, _listed(ev, node.lexpr, scope), scope, node)
    return _unknown(f"operator {name} does not tie the row to the caller", node)


def _literal_truth(node: Any) -> bool | None:
    """true or false written out."""
    if isinstance(node, ast.A_Const) and not node.isnull and isinstance(node.val, ast.Boolean):
        return bool(node.val.boolval)
    return None


def _listed(ev: "Evaluator", node: Any, scope: Scope) -> Alts:
    """The members of a JSON list of a claim."""
    call = ast.FuncCall(funcname=(ast.String(sval="jsonb_array_elements_text"),), args=(node,))
    return values(ev, call, scope)


def _counted(ev: "Evaluator", node: Any, name: str, scope: Scope) -> Dnf | None:
    """(SELECT count(*) ...) > 0, in any spelling: some row matched."""
    left, right = node.lexpr, node.rexpr
    if isinstance(left, ast.A_Const):
        left, right, name = right, left, _MIRRORED.get(name, "")
    while isinstance(left, ast.TypeCast):
        left = left.arg
    if not isinstance(right, ast.A_Const) or (name, constant(right).value) not in _ABOVE_ZERO:
        return None
    found = is_count(ev, left, scope)
    return None if found is None else either(found)


def equal(ev: "Evaluator", left: Any, right: Any, scope: Scope, source: Any) -> Dnf:
    """left = right, both not NULL; rows member by member."""
    if isinstance(left, ast.RowExpr) and isinstance(right, ast.RowExpr):
        pairs = zip(left.args, right.args, strict=True)
        return both(equal(ev, a, b, scope, source) for a, b in pairs)
    return _pairs(ev, values(ev, left, scope), values(ev, right, scope), source)


def _member(ev: "Evaluator", left: Any, right: Alts, scope: Scope, source: Any) -> Dnf:
    return _pairs(ev, values(ev, left, scope), right, source)


def _pairs(ev: "Evaluator", left: Alts, right: Alts, source: Any) -> Dnf:
    found = (_fact(ev, a, b, source) for a, b in product(left, right))
    return either((conj,) for conj in found if conj is not None)


def _fact(ev: "Evaluator", left: Alt, right: Alt, source: Any) -> Conj | None:
    """None where the two can never be equal."""
    a, b = left.term, right.term
    if never_equal(ev.world, a, b) or _told_apart(ev, a, b) or _back_end(ev, a, b) or _back_end(ev, b, a):
        return None
    known = (*left.given, *right.given)
    for term in (a, b):
        if isinstance(term, Opaque):
            return (Unknown(term.reason, source), *known)
    return (Equal(a, b, source=source), *known)


def _told_apart(ev: "Evaluator", a: Term, b: Term) -> bool:
    """true and false, or the role that asks and another one's name."""
    if not (isinstance(a, Const) and isinstance(b, Const)) or a.value == b.value:
        return False
    return {a.value, b.value} == {"true", "false"} or (bool(ev.role) and ev.role in (a.value, b.value))


def _back_end(ev: "Evaluator", claim: Term, value: Term) -> bool:
    """auth.role() = 'service_role': the gateway gives that claim to sessions of that role alone."""
    return (
        isinstance(claim, Claim)
        and claim.path == ("role",)
        and isinstance(value, Const)
        and ev.role not in ev.world.settings.service_roles
        and value.value in ev.world.settings.service_roles
    )


def null(ev: "Evaluator", node: Any, scope: Scope) -> Dnf:
    """When the value is NULL."""
    if isinstance(node, ast.A_Const):
        return TRUE if node.isnull else FALSE
    if isinstance(node, ast.TypeCast):
        return null(ev, node.arg, scope)
    if isinstance(node, ast.CoalesceExpr):
        return both(null(ev, arg, scope) for arg in node.args)
    if isinstance(node, ast.ColumnRef):
        alts = values(ev, node, scope)
        if len(alts) == 1 and ev.is_present(alts[0].term):
            return FALSE
    return _unknown("may be NULL", node)


def _null_test(ev: "Evaluator", node: Any, scope: Scope, sign: bool) -> Dnf:
    absent = node.nulltesttype == enums.NullTestType.IS_NULL
    if absent == sign:
        # A column's NOT NULL is not relied on here: the hole would open with the constraint's next change.
        return _unknown("is true where it is NULL", node)
    alts = values(ev, node.arg, scope)
    return either(((NotNull(a.term, source=node), *a.given),) for a in alts)


def _boolean_test(ev: "Evaluator", node: Any, scope: Scope, sign: bool) -> Dnf:
    kind = _Test(node.booltesttype)
    wanted = {_Test.IS_TRUE: True, _Test.IS_FALSE: False, _Test.IS_NOT_TRUE: True, _Test.IS_NOT_FALSE: False}.get(kind)
    if wanted is None:
        return _unknown("is true where it is NULL", node)
    if (kind in (_Test.IS_TRUE, _Test.IS_FALSE)) == sign:
        return truth(ev, node.arg, scope, sign=wanted)
    return _either_way(ev, node.arg, scope, avoid=wanted)


def _either_way(ev: "Evaluator", node: Any, scope: Scope, *, avoid: bool) -> Dnf:
    """When the condition is NULL or the opposite of `avoid`."""
    opposite = truth(ev, node, scope, sign=not avoid)
    return opposite if never_null(ev, node, scope) else either((opposite, _unknown("is true where it is NULL", node)))


def fails(ev: "Evaluator", node: Any, scope: Scope) -> Dnf:
    """When the condition is not true: false or NULL. Nothing is known in the NULL case."""
    opposite = truth(ev, node, scope, sign=False)
    return opposite if never_null(ev, node, scope) else either((opposite, TRUE))


def never_null(ev: "Evaluator", node: Any, scope: Scope) -> bool:
    """Whether a condition is always true or false, as far as its form tells."""
    match node:
        case ast.NullTest() | ast.BooleanTest():
            return True
        case ast.A_Const():
            return not node.isnull
        case ast.SubLink():
            return bool(node.subLinkType == enums.SubLinkType.EXISTS_SUBLINK)
        case ast.A_Expr():
            return node.kind in (_Kind.AEXPR_DISTINCT, _Kind.AEXPR_NOT_DISTINCT)
        case ast.BoolExpr():
            return all(never_null(ev, arg, scope) for arg in node.args)
        case ast.CoalesceExpr():
            return never_null(ev, node.args[-1], scope)
        case ast.ColumnRef():
            return _is_found(node, scope) or _is_set(node, scope)
        case ast.FuncCall():
            return _function_never_null(ev, node, scope)
        case _:
            return False


def _function_never_null(ev: "Evaluator", node: Any, scope: Scope) -> bool:
    found = ev.targets(node, scope)
    if not found or any(f.strict or f.language != "sql" for f in found):
        return False
    try:
        selects = [function_body(f).select for f in found]
    except NotUnderstood:
        return False
    return all(
        len(s.targetList or ()) == 1
        and not s.fromClause
        and not s.whereClause
        and never_null(ev, s.targetList[0].val, scope)
        for s in selects
    )


def _is_found(node: Any, scope: Scope) -> bool:
    return bool(scope.function) and len(node.fields) == 1 and getattr(node.fields[0], "sval", "") == "found"


def _is_set(node: Any, scope: Scope) -> bool:
    """Whether a name is a variable that is not NULL, where nothing else can be meant."""
    plain = len(node.fields) == 1 and not scope.sources and scope.parent is None
    return plain and getattr(node.fields[0], "sval", "") in scope.present


def _variable(ev: "Evaluator", node: Any, scope: Scope, sign: bool) -> Dnf:
    if isinstance(node, ast.ColumnRef) and _is_found(node, scope):
        return scope.found if sign else TRUE
    arms: list[Dnf] = []
    for alt in values(ev, node, scope):
        if isinstance(alt.term, Const):
            known = _BOOL.get((alt.term.value or "").lower())
            if known is not None and known != sign:
                continue
            arms.append((alt.given,))
        else:
            reason = alt.term.reason if isinstance(alt.term, Opaque) else "may be true in any tenant's row"
            arms.append(((Unknown(reason, node), *alt.given),))
    return either(arms)


def _sublink(ev: "Evaluator", node: Any, scope: Scope, sign: bool) -> Dnf:
    match node.subLinkType:
        case enums.SubLinkType.EXISTS_SUBLINK if sign:
            return either(branch.where for branch in ev.branches(node.subselect, scope))
        case enums.SubLinkType.ANY_SUBLINK if sign and _means(node, "="):
            return _in(ev, node, scope)
        case enums.SubLinkType.ALL_SUBLINK if not sign and _means(node, "<>"):
            return _in(ev, node, scope)
        case enums.SubLinkType.EXPR_SUBLINK:
            found = ev.branches(node.subselect, scope)
            return either(both((b.where, truth(ev, b.targets[0], b.scope, sign=sign))) for b in found)
        case _:
            return _unknown("tells nothing of the row", node)


def _means(node: Any, wanted: str) -> bool:
    """Whether a subquery is compared by this operator; IN leaves it out."""
    name = [part.sval for part in node.operName or ()] or ["="]
    return name in ([wanted], ["pg_catalog", wanted])


def _in(ev: "Evaluator", node: Any, scope: Scope) -> Dnf:
    test = node.testexpr.args if isinstance(node.testexpr, ast.RowExpr) else (node.testexpr,)
    arms = []
    for branch in ev.branches(node.subselect, scope):
        pairs = zip(test, branch.targets, strict=True)
        facts = (_pairs(ev, values(ev, a, scope), values(ev, b, branch.scope), node) for a, b in pairs)
        arms.append(both((branch.where, *facts)))
    return either(arms)


def _case(ev: "Evaluator", node: Any, scope: Scope, sign: bool) -> Dnf:
    arms = [both((when(ev, node, arm, scope), truth(ev, arm.result, scope, sign=sign))) for arm in node.args]
    if node.defresult is not None:
        rest = (fails(ev, _condition(node, arm), scope) for arm in node.args)
        arms.append(both((*rest, truth(ev, node.defresult, scope, sign=sign))))
    return either(arms)


def when(ev: "Evaluator", node: Any, arm: Any, scope: Scope) -> Dnf:
    """When this arm of a CASE is taken: the ones before it are not."""
    before = node.args[: node.args.index(arm)]
    parts = [fails(ev, _condition(node, other), scope) for other in before]
    return both((*parts, truth(ev, _condition(node, arm), scope, sign=True)))


def _condition(node: Any, arm: Any) -> Any:
    if node.arg is None:
        return arm.expr
    name = (ast.String(sval="="),)
    return ast.A_Expr(kind=_Kind.AEXPR_OP, name=name, lexpr=node.arg, rexpr=arm.expr)


def _coalesce(ev: "Evaluator", node: Any, scope: Scope, sign: bool) -> Dnf:
    """The first that is not NULL decides, so a later one counts only where those before may be NULL."""
    arms: list[Dnf] = []
    for arg in node.args:
        arms.append(truth(ev, arg, scope, sign=sign))
        # A function may be replaced by one that does give NULL; what is written out here may not.
        if not isinstance(arg, ast.FuncCall) and never_null(ev, arg, scope):
            break
    return either(arms)


def is_condition(node: Any) -> bool:
    """Whether an expression gives a truth value, so that each outcome tells something."""
    match node:
        case ast.BoolExpr() | ast.NullTest() | ast.BooleanTest():
            return True
        case ast.SubLink():
            kinds = (enums.SubLinkType.EXISTS_SUBLINK, enums.SubLinkType.ANY_SUBLINK, enums.SubLinkType.ALL_SUBLINK)
            return node.subLinkType in kinds
        case ast.A_Expr():
            listed = (_Kind.AEXPR_IN, _Kind.AEXPR_OP_ANY, _Kind.AEXPR_OP_ALL, _Kind.AEXPR_DISTINCT)
            return node.kind in (*listed, _Kind.AEXPR_NOT_DISTINCT) or (
                node.kind == _Kind.AEXPR_OP and operator(node) in _COMPARES
            )
        case _:
            return False
