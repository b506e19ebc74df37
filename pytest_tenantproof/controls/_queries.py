"""The shape of SQL statements: what they read from, ask for and return."""

from collections.abc import Iterator, Sequence
from typing import Any

from pglast import ast, enums

from pytest_tenantproof.catalog.evaluate import plain_name
from pytest_tenantproof.catalog.model import Constraint, Table
from pytest_tenantproof.catalog.recording import parsed

__all__ = [
    "FROMS",
    "columns",
    "condition",
    "equalities",
    "expression",
    "inferred",
    "is_only_made",
    "is_plain",
    "is_unique",
    "leaves",
    "named",
    "names_of",
    "pairs",
    "parts",
    "shared",
    "tables_of",
    "target_of",
    "texts_of",
    "verb",
    "without_queries",
]

_REGROUPS = (
    "groupClause",
    "havingClause",
    "windowClause",
    "limitCount",
    "limitOffset",
    "distinctClause",
    "valuesLists",
)
_TREE = 0
"""parseMode of a whole statement; 2 is an expression, from 3 on there is a target before it."""
FROMS = frozenset({"fromClause", "usingClause", "sourceRelation"})


def without_queries(item: Any) -> Any:
    """A FROM item but for its query, which is read by itself."""
    if isinstance(item, ast.JoinExpr):
        return (without_queries(item.larg), without_queries(item.rarg), item.quals)
    return None if isinstance(item, ast.RangeSubselect) else item


def texts_of(block: Any) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Everything that a PL/pgSQL block evaluates: SQL text, and of an EXECUTE what it uses for $1, $2, ..."""
    if isinstance(block, dict):
        text = block.get("query")
        if isinstance(text, str):
            mode = block.get("parseMode", _TREE)
            value = text.partition(":=")[2] if ":=" in text else text.partition("=")[2]
            yield text if mode == _TREE else f"SELECT {value if mode > 2 else text}", None
            return
        for name, value in block.items():
            dynamic = name in ("PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors")
            holder = value if dynamic else block if name == "dynquery" else {}
            if run := holder.get("query" if dynamic else "dynquery"):
                used = (param["PLpgSQL_expr"]["query"] for param in holder.get("params", ()))
                yield run["PLpgSQL_expr"]["query"], tuple(used)
            yield from texts_of(value)
    elif isinstance(block, list):
        for item in block:
            yield from texts_of(item)


def verb(node: Any) -> str:
    return {ast.UpdateStmt: "updates", ast.DeleteStmt: "deletes"}.get(type(node), "reads")


def target_of(node: Any) -> str:
    relation = getattr(node, "relation", None)
    if relation is None or isinstance(node, ast.InsertStmt):
        return ""
    return str(relation.alias.aliasname if relation.alias else relation.relname)


def condition(node: Any) -> Any:
    return node.joinCondition if isinstance(node, ast.MergeStmt) else getattr(node, "whereClause", None)


def parts(node: Any) -> list[Any]:
    if isinstance(node, ast.BoolExpr) and node.boolop == enums.BoolExprType.AND_EXPR:
        return [part for arg in node.args for part in parts(arg)]
    return [node] if node is not None else []


def equalities(node: Any) -> Iterator[tuple[Any, Any]]:
    """What a condition asks to be equal; row comparisons field by field. Of a list it is one (COALESCE), of a query
    a row of it."""
    if isinstance(node, ast.SubLink) and node.subLinkType == enums.SubLinkType.ANY_SUBLINK and not node.operName:
        yield node.testexpr, ast.SubLink(subLinkType=enums.SubLinkType.EXPR_SUBLINK, subselect=node.subselect)
    if not isinstance(node, ast.A_Expr) or plain_name(node.name) != "=":
        return
    if node.kind == enums.A_Expr_Kind.AEXPR_IN:
        yield node.lexpr, ast.CoalesceExpr(args=node.rexpr)
    elif node.kind == enums.A_Expr_Kind.AEXPR_OP_ANY and isinstance(node.rexpr, ast.A_ArrayExpr):
        yield node.lexpr, ast.CoalesceExpr(args=node.rexpr.elements or ())
    elif node.kind == enums.A_Expr_Kind.AEXPR_OP:
        both = isinstance(node.lexpr, ast.RowExpr) and isinstance(node.rexpr, ast.RowExpr)
        yield from zip(node.lexpr.args, node.rexpr.args, strict=False) if both else [(node.lexpr, node.rexpr)]


def shared(join: Any) -> list[Any]:
    """What USING asks for, where two tables are joined."""
    sides = (join.larg, join.rarg)
    if not all(isinstance(side, ast.RangeVar) for side in sides):
        return []
    aliases = [side.alias.aliasname if side.alias else side.relname for side in sides]
    return [
        ast.A_Expr(
            enums.A_Expr_Kind.AEXPR_OP,
            (ast.String(sval="="),),
            *(ast.ColumnRef(fields=(ast.String(sval=alias), column)) for alias in aliases),
        )
        for column in join.usingClause or ()
    ]


def is_plain(node: Any) -> bool:
    """Whether what is asked of a query's result is asked of each of its rows."""
    if not isinstance(node, ast.SelectStmt) or any(getattr(node, part) for part in _REGROUPS):
        return False
    return not _has_window(node.targetList)


def _has_window(node: Any) -> bool:
    """Whether anything is computed over rows that a condition on the result does not limit."""
    if isinstance(node, tuple):
        return any(map(_has_window, node))
    if not isinstance(node, ast.Node):
        return False
    over = isinstance(node, ast.FuncCall) and node.over is not None
    return over or any(_has_window(getattr(node, name)) for name in node)


def leaves(query: Any) -> list[Any]:
    """The SELECTs that a query is made of."""
    if not isinstance(query, ast.SelectStmt):
        return []
    if query.op == enums.SetOperation.SETOP_NONE:
        return [query]
    return leaves(query.larg) + leaves(query.rarg)


def expression(text: str) -> Any:
    """The tree of one expression, or None."""
    select = parsed(f"SELECT {text}")
    targets: Any = getattr(select, "targetList", None) or ()
    return targets[0].val if len(targets) == 1 else None


def columns(query: Any) -> dict[str, int]:
    """The places of a query's columns, by name."""
    targets = next((leaf.targetList or () for leaf in leaves(query)), ())
    return {named(target): place for place, target in enumerate(targets) if named(target)}


def named(target: Any) -> str:
    return str(target.name or next(iter(names_of(target.val)[-1:]), ""))


def names_of(node: Any) -> list[str]:
    if not isinstance(node, ast.ColumnRef):
        return []
    return [part.sval if isinstance(part, ast.String) else "*" for part in node.fields]


def is_only_made(insert: Any) -> bool:
    """Whether what an INSERT returns is never a row that was there."""
    clause = insert.onConflictClause
    return clause is None or clause.action == enums.OnConflictAction.ONCONFLICT_NOTHING


def is_unique(table: Table, column: str) -> bool:
    return any(i.unique and i.valid and not i.predicate and i.columns == (column,) for i in table.indexes)


def inferred(infer: Any, table: Table) -> Sequence[str]:
    """The columns of the key that ON CONFLICT names."""
    if infer is None or not infer.conname:
        return [element.name for element in (infer.indexElems or ())] if infer else []
    return next((c.columns for c in table.constraints if c.name == infer.conname), ())


def pairs(constraint: Constraint) -> dict[str, str]:
    return (
        dict(zip(constraint.columns, constraint.target_columns, strict=False)) if constraint.kind == "foreign" else {}
    )


def tables_of(select: Any) -> dict[str, Any]:
    """The FROM items of a SELECT by alias, joined ones too."""
    todo, found = list(getattr(select, "fromClause", None) or ()), {}
    while todo:
        item = todo.pop()
        if isinstance(item, ast.JoinExpr):
            todo += [item.larg, item.rarg]
        elif isinstance(item, ast.RangeTableSample):
            todo.append(item.relation)
        else:
            alias = getattr(item, "alias", None)
            found[alias.aliasname if alias else getattr(item, "relname", f"?{len(todo)}")] = item
    return found
