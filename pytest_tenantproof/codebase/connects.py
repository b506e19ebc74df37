"""Python code that reaches a database past the client. Whatever of a driver is not known to be harmless counts."""

import ast
from collections.abc import Iterator, Mapping

from pytest_tenantproof.codebase.sources import Found

__all__ = ["raw_connects"]

_DRIVERS = frozenset(
    "psycopg psycopg_pool psycopg2 psycopg_c psycopg_binary asyncpg pg8000 aiopg pygresql pgdb postgresql "
    "sqlalchemy sqlmodel databases peewee pony tortoise piccolo ormar records dataset django.db supabase "
    "supabase_py postgrest supafunc storage3 gotrue dlt sqlmesh pandas.io.sql".split()
)
# They hold no connection: composition of SQL, types and errors.
_HARMLESS = {
    "psycopg": frozenset("sql errors rows types abc adapt DataError DatabaseError Error IntegrityError".split())
    | frozenset("InterfaceError InternalError NotSupportedError OperationalError ProgrammingError Warning".split()),
    "psycopg2": frozenset({"errors", "errorcodes", "Error", "DatabaseError", "OperationalError", "IntegrityError"}),
    "sqlalchemy": frozenset({"exc", "types"}),
    "asyncpg": frozenset({"exceptions"}),
}
_LOADERS = frozenset({"import_module", "__import__"})
_TOOLS = frozenset({"psql", "pg_dump", "pg_restore", "pgcli"})


def raw_connects(files: Mapping[str, str]) -> Iterator[Found]:
    """Every line of Python that loads a driver, or a program that is one. Files that do not parse count whole."""
    for path, text in files.items():
        if not path.endswith((".py", ".pyw")):
            continue
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError) as error:
            yield Found(path, getattr(error, "lineno", None) or 1, "cannot be parsed, so nothing is known of it")
            continue
        yield from _in_module(path, tree)


def _in_module(path: str, tree: ast.Module) -> Iterator[Found]:
    names: dict[str, str] = {}
    uses: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from _imported(path, node, names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(path, node)
        elif isinstance(node, ast.Call):
            yield from _loaded(path, node)
        elif isinstance(node, ast.Constant) and (tool := _program(node.value)) in _TOOLS:
            yield Found(path, node.lineno, f"runs {tool}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            uses.add(id(node.value))
            driver = names[node.value.id]
            if node.attr not in _HARMLESS.get(driver, ()):
                yield Found(path, node.lineno, f"uses {driver}.{node.attr}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names and id(node) not in uses:
            yield Found(path, node.lineno, f"hands {names[node.id]} on, so its use cannot be followed")


def _program(value: object) -> str:
    return value.partition(" ")[0].rpartition("/")[2] if isinstance(value, str) else ""


def _driver(module: str) -> str:
    """The driver that a module belongs to, or nothing."""
    parts = module.split(".")
    return next((name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in _DRIVERS), "")


def _imported(path: str, node: ast.Import, names: dict[str, str]) -> Iterator[Found]:
    for alias in node.names:
        driver = _driver(alias.name)
        if not driver:
            continue
        rest = alias.name.removeprefix(driver).lstrip(".").partition(".")[0]
        harmless = _HARMLESS.get(driver, frozenset())
        if not harmless or (rest and rest not in harmless):
            yield Found(path, node.lineno, f"imports {alias.name}")
        elif not (rest and alias.asname):
            names[alias.asname or driver] = driver


def _imported_from(path: str, node: ast.ImportFrom) -> Iterator[Found]:
    module = node.module or ""
    if node.level:
        return
    for alias in node.names:
        driver = _driver(f"{module}.{alias.name}") or _driver(module)
        if not driver:
            continue
        inner = f"{module}.{alias.name}".removeprefix(driver).lstrip(".").partition(".")[0]
        if inner not in _HARMLESS.get(driver, ()):
            yield Found(path, node.lineno, f"imports {alias.name} from {module}")


def _loaded(path: str, node: ast.Call) -> Iterator[Found]:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called not in _LOADERS:
        return
    first = node.args[0] if node.args else None
    if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
        yield Found(path, node.lineno, "imports a module by a name made at run time")
    elif _driver(first.value):
        yield Found(path, node.lineno, f"imports {first.value}")
