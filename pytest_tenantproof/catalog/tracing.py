"""Where a value that a trigger function writes comes from: followed through variables, queries and aliases."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pglast import ast

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import body_of, into, query
from pytest_tenantproof.catalog.recording import parsed

__all__ = ["Origin", "Tracer", "returned", "returning"]


@dataclass(slots=True)
class Origin:
    """`rows`: old, new (transition tables too); `names`: other names, e.g. tg_op; `calls`: functions called;
    `ends`: the expressions that stand behind variables and aliases, `columns` those that are mere columns, e.g.
    new.id; `texts`: literals in them."""

    rows: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    ends: list[Any] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)

    @property
    def empty(self) -> bool:
        """Whether every end is NULL."""
        return bool(self.ends) and all(isinstance(e, ast.A_Const) and e.isnull for e in self.ends)


Scope = Mapping[str, Any]


class Tracer:
    """Follows values of one trigger function. `transitions`: transition table -> old or new."""

    def __init__(self, function: Function, transitions: Mapping[str, str]) -> None:
        self.transitions = transitions
        self.variables: dict[str, list[Any]] = {}
        body = body_of(function)
        for name, text in body.defaults if body else ():
            self._assign(name, parsed(f"SELECT {text}"))
        for kind, node in body.walk() if body else ():
            if kind == "PLpgSQL_stmt_assign":
                target, _, value = query(node, "expr").partition(":=" if ":=" in query(node, "expr") else "=")
                self._assign(target.strip().lower(), parsed(f"SELECT {value}"))
            for position, name in enumerate(into(node)):
                select = parsed(query(node, "sqlstmt") or query(node, "query"))
                targets = getattr(select, "targetList", None) or ()
                self._assign(name, select, position if len(into(node)) > 1 or len(targets) == 1 else None)

    def _assign(self, name: str, select: Any, position: int | None = 0) -> None:
        """Remembers (expression, its query's scope); all of them where a record takes them all."""
        targets = getattr(select, "targetList", None) or ()
        wanted = targets if position is None else targets[position : position + 1]
        held = self.variables.setdefault(name, [])
        if isinstance(select, ast.InsertStmt):
            targets = returning(select)
            wanted = targets if position is None else targets[position : position + 1]
            held += [(_shown_as(t), _returning(select, t), {}) for t in wanted] or [(None, None, {})]
            return
        held += [(t.name, t.val, _scope(select, {})) for t in wanted] or [(None, None, {})]

    def origin(self, node: Any, select: Any = None) -> Origin:
        """Everything that the expression, in the target list of `select`, can come from."""
        found = Origin()
        self._follow(node, _scope(select, {}), found, frozenset())
        return found

    def _follow(self, node: Any, scope: Scope, found: Origin, seen: frozenset[str]) -> None:
        while isinstance(node, ast.TypeCast):
            node = node.arg
        held = list(self._behind(node, scope)) if isinstance(node, ast.ColumnRef) else []
        key = repr(node)
        if held and key not in seen:
            for value, inner in held:
                self._follow(value, inner, found, seen | {key})
            return
        if isinstance(node, ast.ColumnRef):
            head, *rest = _names(node)
            found.columns.add(".".join((self._relation(head, scope), *rest)))
        else:
            found.ends.append(node)
        self._note(node, scope, found, seen)

    def _note(self, node: Any, scope: Scope, found: Origin, seen: frozenset[str]) -> None:
        """Collects rows, names and calls of an expression, and of what is behind its references."""
        match node:
            case tuple():
                for item in node:
                    self._note(item, scope, found, seen)
            case ast.ColumnRef():
                self._reference(node, scope, found, seen)
            case ast.Node():
                if isinstance(node, ast.FuncCall):
                    found.calls.add(".".join(part.sval for part in node.funcname).removeprefix("pg_catalog."))
                elif isinstance(node, ast.SQLValueFunction):
                    found.calls.add(node.op.name.removeprefix("SVFOP_").lower())
                elif isinstance(node, ast.A_Const) and isinstance(node.val, ast.String):
                    found.texts.add(node.val.sval)
                inner = _scope(node, scope) if isinstance(node, ast.SelectStmt) else scope
                for name in node:
                    value = getattr(node, name)
                    if isinstance(value, tuple | ast.Node) and name != "funcname":
                        self._note(value, inner, found, seen)

    def _reference(self, node: Any, scope: Scope, found: Origin, seen: frozenset[str]) -> None:
        key = repr(node)
        held = list(self._behind(node, scope))
        if held and key not in seen:
            deeper = Origin()
            for value, inner in held:
                self._follow(value, inner, deeper, seen | {key})
            found.rows |= deeper.rows
            found.names |= deeper.names
            found.calls |= deeper.calls
            found.texts |= deeper.texts
        head = self._relation(_names(node)[0], scope)
        (found.rows if head in ("old", "new") else found.names).add(head)

    def _relation(self, name: str, scope: Scope) -> str:
        """What an alias stands for: old, new, or a table with its schema."""
        item = scope.get(name)
        if isinstance(item, ast.RangeVar):
            return self.transitions.get(item.relname, f"{item.schemaname or ''}.{item.relname}")
        return name

    def _behind(self, node: Any, scope: Scope) -> Iterator[tuple[Any, Scope]]:
        """The expressions that a reference stands for, each with its scope."""
        names = _names(node)
        item = scope.get(names[0])
        if item is None and len(names) == 1 and names[0] not in self.variables:
            for each in scope.values():
                yield from _targets(each, names[0], scope)
        elif isinstance(item, ast.RangeSubselect):
            yield from _targets(item, names[1] if len(names) > 1 else "", scope)
        elif isinstance(item, ast.RangeFunction):
            yield item.functions, {}
        elif item is None:
            for name, value, inner in self.variables.get(names[0], ()):
                if len(names) == 1 or name is None or name == names[1]:
                    insert = isinstance(value, ast.InsertStmt) and len(names) > 1
                    yield returned(value, names[1]) if insert else value, inner
            for _, value, inner in self.variables.get(".".join(names), ()) if len(names) > 1 else ():
                yield value, inner


def returning(insert: Any) -> tuple[Any, ...]:
    """What an INSERT returns."""
    return insert.returningClause.exprs if insert.returningClause else ()


def returned(insert: Any, field: str) -> Any:
    """An INSERT of whose RETURNING only that field is wanted."""
    [target] = returning(insert)
    whole = isinstance(target.val, ast.ColumnRef) and isinstance(target.val.fields[-1], ast.A_Star)
    return _returning(insert, ast.ResTarget(val=ast.ColumnRef(fields=(ast.String(sval=field),)))) if whole else insert


def _returning(insert: Any, target: Any) -> Any:
    made = ast.InsertStmt(relation=insert.relation, returningClause=ast.ReturningClause(exprs=(target,)))
    made.onConflictClause = insert.onConflictClause
    return made


def _shown_as(target: Any) -> str | None:
    """The name of what RETURNING gives; None for `*`."""
    last = _names(target.val)[-1] if isinstance(target.val, ast.ColumnRef) else ""
    return None if last == "*" else target.name or last


def _targets(item: Any, name: str, scope: Scope) -> Iterator[tuple[Any, Scope]]:
    if not isinstance(item, ast.RangeSubselect):
        return
    inner = _scope(item.subquery, scope if item.lateral else {})
    for target in item.subquery.targetList or ():
        implied = target.name or (_names(target.val)[-1] if isinstance(target.val, ast.ColumnRef) else "")
        if not name or implied == name:
            yield target.val, inner


def _names(node: Any) -> list[str]:
    return [part.sval.lower() if isinstance(part, ast.String) else "*" for part in node.fields]


def _scope(select: Any, outer: Scope) -> dict[str, Any]:
    """FROM items of a query by alias, those of the outer ones too."""
    found = dict(outer)
    todo = list(getattr(select, "fromClause", None) or ())
    while todo:
        item = todo.pop()
        if isinstance(item, ast.JoinExpr):
            todo += [item.larg, item.rarg]
        elif (alias := getattr(item, "alias", None)) is not None:
            found[alias.aliasname] = item
        elif isinstance(item, ast.RangeVar):
            found[item.relname] = item
    return found
