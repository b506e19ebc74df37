"""What an SQL expression in a trigger function is worth, in a state of its variables and of the rows it looks up."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums

from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.catalog.recording import parsed
from pytest_tenantproof.catalog.values import (
    UNKNOWN,
    Json,
    Record,
    Token,
    Truth,
    Unknown,
    Value,
    all_of,
    any_of,
    differ,
    equal,
    negated,
)

__all__ = [
    "ANYTHING",
    "ROW_TO_JSON",
    "Found",
    "Moment",
    "Outcome",
    "Row",
    "State",
    "evaluate",
    "keeps_apart",
    "plain_name",
    "truth",
    "truth_of",
    "value_of",
]

State = Mapping[str, Value]

ROW_TO_JSON = frozenset({"to_jsonb", "to_json", "row_to_json"})


@dataclass(frozen=True, slots=True)
class Found:
    """A row that a query gives: its columns in order, or (`whole`) some of a table's."""

    values: tuple[tuple[str, Value], ...] = ()
    whole: bool = False

    def first(self) -> Value:
        return self.values[0][1] if self.values and not self.whole else UNKNOWN


Outcome = Found | None
ANYTHING: tuple[Outcome, ...] = (None, Found())


@dataclass(frozen=True, slots=True)
class Row:
    """The row of `table` whose `key` is the token `at`; `held` is None where there is none."""

    table: Table
    keys: frozenset[str]
    at: Token
    held: Record | None


@dataclass(frozen=True, slots=True)
class Moment:
    """`state` has new, old, found, tg_op and variables by name; `schemas` is where names without one are looked for;
    `scope` the FROM items around an expression, by alias."""

    state: State
    queries: Callable[[Any, "Moment"], tuple[Outcome, ...]]
    """What a query may give: its first row, or None for no row."""
    row: Row | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    schemas: tuple[str, ...] | None = None
    scope: Mapping[str, tuple[Record, frozenset[str]]] = field(default_factory=dict)


def evaluate(text: str, at: Moment) -> Value:
    """The value of an expression as PL/pgSQL writes it: also `count(*) FROM t WHERE ...`."""
    select = parsed(f"SELECT {text}")
    if not isinstance(select, ast.SelectStmt) or not select.targetList or len(select.targetList) != 1:
        return UNKNOWN
    if any(name not in ("targetList", "limitOption", "op", "all") and getattr(select, name) for name in select):
        return _agreed(_first(outcome) for outcome in at.queries(select, at))
    return value_of(select.targetList[0].val, at)


def truth(text: str, at: Moment) -> Truth:
    return _as_truth(evaluate(text, at))


def _as_truth(value: Value) -> Truth:
    return value if value is None or isinstance(value, bool) else UNKNOWN


def truth_of(node: Any, at: Moment) -> Truth:
    return _as_truth(value_of(node, at))


def value_of(node: Any, at: Moment) -> Value:
    match node:
        case ast.A_Const():
            return _constant(node)
        case ast.ColumnRef():
            return _reference(node, at)
        case ast.TypeCast():
            return _cast(node, at)
        case ast.BoolExpr():
            parts = [truth_of(arg, at) for arg in node.args]
            if node.boolop == enums.BoolExprType.NOT_EXPR:
                return negated(parts[0])
            return all_of(parts) if node.boolop == enums.BoolExprType.AND_EXPR else any_of(parts)
        case ast.NullTest():
            return _null_test(node, at)
        case ast.BooleanTest():
            return _boolean_test(node, at)
        case ast.A_Expr():
            return _operation(node, at)
        case ast.CoalesceExpr():
            return next((v for v in (value_of(arg, at) for arg in node.args) if v is not None), None)
        case ast.CaseExpr():
            return _case(node, at)
        case ast.SubLink():
            return _sublink(node, at)
        case ast.A_Indirection(indirection=(ast.A_Indices(is_slice=False, uidx=ast.A_Const() as place),)):
            held, index = value_of(node.arg, at), _constant(place)
            return held.get(str(index)) if isinstance(held, Record) and isinstance(index, int) else UNKNOWN
        case ast.FuncCall() if plain_name(node.funcname) in ROW_TO_JSON and len(node.args or ()) == 1:
            inner = value_of(node.args[0], at)
            return Json(inner) if isinstance(inner, Record) else UNKNOWN
    return UNKNOWN


def _constant(node: Any) -> Value:
    if node.isnull:
        return None
    value = node.val
    if isinstance(value, ast.Integer):
        return int(value.ival or 0)
    if isinstance(value, ast.Boolean):
        return bool(value.boolval)
    return str(value.sval) if isinstance(value, ast.String) else UNKNOWN


def _reference(node: Any, at: Moment) -> Value:
    names = [part.sval if isinstance(part, ast.String) else "*" for part in node.fields]
    if len(names) > 2:
        return UNKNOWN
    head, *rest = names
    if head in at.scope:
        record, columns = at.scope[head]
        known = rest and rest[0] in columns and head not in at.state
        return record.get(rest[0]) if known else UNKNOWN
    if not rest and (holders := [record for record, columns in at.scope.values() if head in columns]):
        # A variable by a column's name: which of the two is meant depends on settings.
        return holders[0].get(head) if len(holders) == 1 and head not in at.state else UNKNOWN
    value = at.state.get(head, UNKNOWN)
    if isinstance(value, Unknown):
        return UNKNOWN
    if not rest or rest == ["*"]:
        return value
    return value.get(rest[0]) if isinstance(value, Record) else UNKNOWN


def _cast(node: Any, at: Moment) -> Value:
    """Casts to text, and to the types of the columns compared, keep what differs apart."""
    value = value_of(node.arg, at)
    name = ".".join(part.sval for part in node.typeName.names).removeprefix("pg_catalog.")
    if value is None or value is UNKNOWN or node.typeName.typmods or node.typeName.arrayBounds:
        return value if value is None else UNKNOWN
    if isinstance(value, Token):
        return value if keeps_apart(node, value.types) else UNKNOWN
    if isinstance(value, str):
        return value if name in ("text", "varchar") else UNKNOWN
    return value if isinstance(value, bool) and name == "bool" else UNKNOWN


def keeps_apart(cast: Any, types: Iterable[str]) -> bool:
    """Whether a cast of what is of one of the types leaves different values different."""
    name = ".".join(part.sval for part in cast.typeName.names).removeprefix("pg_catalog.")
    plain = not (cast.typeName.typmods or cast.typeName.arrayBounds)
    return plain and name in ("text", "varchar", *types)


def _null_test(node: Any, at: Moment) -> Truth:
    value = value_of(node.arg, at)
    if value is UNKNOWN or isinstance(value, Record):
        return UNKNOWN
    return bool((value is None) == (node.nulltesttype == enums.NullTestType.IS_NULL))


def _boolean_test(node: Any, at: Moment) -> Truth:
    value = truth_of(node.arg, at)
    if value is UNKNOWN:
        return UNKNOWN
    name = node.booltesttype.name
    wanted = {"TRUE": True, "FALSE": False, "UNKNOWN": None}[name.rpartition("_")[2]]
    return bool((value is wanted) != name.startswith("IS_NOT"))


def plain_name(parts: Any) -> str:
    names = [part.sval for part in parts]
    return names[-1] if len(names) == 1 or names[0] == "pg_catalog" else ""


def _operation(node: Any, at: Moment) -> Value:
    kind, name = node.kind, plain_name(node.name)
    if kind in (enums.A_Expr_Kind.AEXPR_DISTINCT, enums.A_Expr_Kind.AEXPR_NOT_DISTINCT):
        found = any_of(differ(a, b) for a, b in _pairs(node, at))
        return found if kind == enums.A_Expr_Kind.AEXPR_DISTINCT else negated(found)
    if kind == enums.A_Expr_Kind.AEXPR_IN and name in ("=", "<>"):
        left = value_of(node.lexpr, at)
        found = any_of(equal(left, value_of(item, at)) for item in node.rexpr)
        return found if name == "=" else negated(found)
    if kind == enums.A_Expr_Kind.AEXPR_OP_ANY and name == "=" and isinstance(node.rexpr, ast.A_ArrayExpr):
        left = value_of(node.lexpr, at)
        return any_of(equal(left, value_of(item, at)) for item in node.rexpr.elements or ())
    if kind != enums.A_Expr_Kind.AEXPR_OP or node.lexpr is None:
        return UNKNOWN
    if name in ("=", "<>"):
        found = all_of(equal(a, b) for a, b in _pairs(node, at))
        return found if name == "=" else negated(found)
    left, right = value_of(node.lexpr, at), value_of(node.rexpr, at)
    if name in ("->", "->>") and isinstance(left, Json) and isinstance(right, str):
        return _field(left.of, right, name)
    if name in ("<", ">", "<=", ">=") and type(left) is int and type(right) is int:
        return {"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[name]
    return UNKNOWN


def _field(row: Record, name: str, operator: str) -> Value:
    """A field of a row's JSON: as text, or as JSON that has nothing but it, by no name."""
    if any(field == "" for field, _ in row.fields):
        return UNKNOWN
    if operator == "->>":
        return row.get(name)
    # Of a row that is not there no field is, and that is no JSON null.
    return UNKNOWN if row.rest is None else Json(Record((("", row.get(name)),), None))


def _pairs(node: Any, at: Moment) -> Iterator[tuple[Value, Value]]:
    """What is compared with what: rows that are written out field by field."""
    sides = (node.lexpr, node.rexpr)
    if all(isinstance(side, ast.RowExpr) and side.args for side in sides):
        left, right = node.lexpr.args, node.rexpr.args
        if len(left) != len(right):
            yield UNKNOWN, UNKNOWN
            return
        yield from ((value_of(a, at), value_of(b, at)) for a, b in zip(left, right, strict=True))
    elif any(isinstance(side, ast.RowExpr) for side in sides):
        yield UNKNOWN, UNKNOWN
    else:
        yield value_of(node.lexpr, at), value_of(node.rexpr, at)


def _case(node: Any, at: Moment) -> Value:
    tested = None if node.arg is None else value_of(node.arg, at)
    for when in node.args:
        holds = truth_of(when.expr, at) if node.arg is None else equal(tested, value_of(when.expr, at))
        if holds is UNKNOWN:
            return UNKNOWN
        if holds is True:
            return value_of(when.result, at)
    return None if node.defresult is None else value_of(node.defresult, at)


def _sublink(node: Any, at: Moment) -> Value:
    if at.scope:
        return UNKNOWN
    outcomes = at.queries(node.subselect, at)
    match node.subLinkType:
        case enums.SubLinkType.EXISTS_SUBLINK:
            return _agreed(outcome is not None for outcome in outcomes)
        case enums.SubLinkType.EXPR_SUBLINK:
            return _agreed(_first(outcome) for outcome in outcomes)
        case enums.SubLinkType.ANY_SUBLINK if not node.operName or plain_name(node.operName) == "=":
            left = value_of(node.testexpr, at)
            return _agreed(False if o is None else equal(left, _first(o)) for o in outcomes)
    return UNKNOWN


def _first(outcome: Outcome) -> Value:
    return outcome.first() if outcome else None


def _agreed(values: Iterator[Value]) -> Value:
    found = list(values)
    return found[0] if all(type(v) is type(found[0]) and v == found[0] for v in found) else UNKNOWN
