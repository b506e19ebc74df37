"""Scripts that insert, delete or truncate without asking the gate first."""

import ast
import re
from collections.abc import Iterator, Mapping

from pytest_tenantproof.codebase.sources import Found

__all__ = ["ungated_writes"]

_WRITES = re.compile(
    r"\b(insert\s+into|delete\s+from|truncate\s+(table\s+)?[\w\".]+|update\s+[\w\".]+\s+set|merge\s+into"
    r"|drop\s+(table|schema|database)|copy\s+[\w\".]+(\s*\([^)]*\))?\s+from|alter\s+table)\b",
    re.I,
)
_METHODS = frozenset({"insert", "upsert", "update", "delete"})
_TABLES = frozenset({"table", "from_"})
_GATES = frozenset({"require_demo_seed"})
_HOME = "pytest_tenantproof.gates"


def ungated_writes(files: Mapping[str, str]) -> Iterator[Found]:
    """Each line that writes in a file which does not, unconditionally, ask the gate before it."""
    for path, text in files.items():
        if path.endswith((".py", ".pyw")):
            yield from _python(path, text)
        else:
            for match in _WRITES.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                yield Found(path, line, f"{_said(match)} in a file that cannot ask the gate")


def _python(path: str, text: str) -> Iterator[Found]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        yield Found(path, getattr(error, "lineno", None) or 1, "cannot be parsed, so nothing is known of it")
        return
    names = _gate_names(tree)
    if _asks(tree.body, names):
        yield from (found for found in _writes(path, tree.body, deep=False) if found.line < _first(tree.body, names))
        return
    inner = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    gated = any(_asks(function.body, names) for function in inner)
    yield from (found for found in _writes(path, tree.body, deep=not gated))
    for function in inner if gated else ():
        if _asks(function.body, names):
            first = _first(function.body, names)
            yield from (found for found in _writes(path, function.body, deep=True) if found.line < first)


def _gate_names(tree: ast.Module) -> frozenset[str]:
    """What the gate is called here: a function of that name which comes from anywhere else opens nothing."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == _HOME:
            found |= {alias.asname or alias.name for alias in node.names if alias.name in _GATES}
        elif isinstance(node, ast.ImportFrom) and node.module == _HOME.rpartition(".")[0]:
            found |= {f"{alias.asname or alias.name}." for alias in node.names if alias.name == "gates"}
        elif isinstance(node, ast.Import):
            found |= {f"{alias.asname or alias.name}." for alias in node.names if alias.name == _HOME}
    return frozenset(found)


def _asks(body: list[ast.stmt], names: frozenset[str]) -> bool:
    return _first(body, names) > 0


def _first(body: list[ast.stmt], names: frozenset[str]) -> int:
    """The line of the first call of the gate that nothing but an exception can pass by; 0 without one."""
    for statement in body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            called = ast.unparse(statement.value.func)
            if called in names or any(called == f"{name}require_demo_seed" for name in names if name.endswith(".")):
                return statement.lineno
        always = isinstance(statement, ast.With | ast.AsyncWith)
        always |= isinstance(statement, ast.If) and _is_main(statement)
        always |= isinstance(statement, ast.Try) and not statement.handlers
        inner: list[ast.stmt] = getattr(statement, "body", []) if always else []
        if inner and (line := _first(inner, names)):
            return line
    return 0


def _is_main(statement: ast.If) -> bool:
    return ast.unparse(statement.test).replace('"', "'") == "__name__ == '__main__'"


def _writes(path: str, body: list[ast.stmt], *, deep: bool) -> Iterator[Found]:
    """Writes in a body; `deep` looks into its functions too."""
    for statement in body:
        if not deep and not any(isinstance(node, ast.Call) for node in _running(statement)):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := _WRITES.search(node.value)):
                yield Found(path, node.lineno, f"{_said(match)} without the gate")
            elif isinstance(node, ast.Call) and _is_api_write(node):
                yield Found(path, node.lineno, "writes through the API without the gate")


def _running(statement: ast.stmt) -> Iterator[ast.AST]:
    """What of a module's statement runs when it is imported; text that is only given a name does nothing."""
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from ast.walk(statement)


def _is_api_write(node: ast.Call) -> bool:
    """client.table("x").insert(...)"""
    if not (isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS):
        return False
    inner: ast.AST = node.func.value
    while isinstance(inner, ast.Call | ast.Attribute):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr in _TABLES:
            return True
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    return False


def _said(match: re.Match[str]) -> str:
    return " ".join(match[0].split()[:2]).upper()
