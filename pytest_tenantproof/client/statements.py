"""What a statement is, by PostgreSQL's own grammar. Pure, and cached by text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pglast
from pglast import ast

__all__ = ["Statement", "inspect"]

_CACHED = 65536
_CATALOGS = frozenset({"pg_catalog", "information_schema", "pg_toast"})
_ALLOWED = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt, ast.ExplainStmt)
# What these do outlives the transaction, shows another tenant's, runs text as SQL, or reaches files and servers.
_FUNCTIONS = frozenset(
    "set_config lastval currval setval setseed query_to_xml query_to_xmlschema query_to_xml_and_xmlschema "
    "table_to_xml table_to_xmlschema table_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema schema_to_xml "
    "schema_to_xmlschema schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema "
    "database_to_xml_and_xmlschema ts_stat ts_rewrite crosstab connectby xpath_table loread lowrite "
    "pg_cancel_backend pg_terminate_backend pg_reload_conf pg_rotate_logfile pg_stat_file pg_read_file "
    "pg_read_binary_file pg_execute_server_program pg_export_snapshot pg_promote pg_switch_wal pg_notify "
    "pg_backup_start pg_backup_stop pg_prepared_statement pg_cursor pg_stat_get_activity".split()
)
_PREFIXES = tuple(
    "dblink lo_ crosstab pg_ls_ pg_logical_ pg_create_ pg_drop_ pg_advisory_lock pg_advisory_unlock "
    "pg_try_advisory_lock pg_stat_reset pg_replication_ pg_wal_ pg_file_ pg_stat_statements_reset".split()
)
_SESSION_VIEWS = frozenset({"pg_prepared_statements", "pg_cursors", "pg_stat_activity", "pg_stat_statements"})
_PLACEHOLDER = re.compile(r"%(?:\(([^)]*)\))?(.)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Statement:
    """`text` is what would be sent, with $1 for the first of `order`; `refusal` why no scope may send it."""

    text: str
    order: tuple[str | int, ...] = ()
    tables: frozenset[tuple[str, str]] = frozenset()
    """(schema, name); the schema is empty where the statement leaves it to search_path."""
    refusal: str = ""


def inspect(query: str, *, parameters: bool) -> Statement:
    """The statement that psycopg would send for `query`, whose % count only where there are parameters."""
    return _inspect(query, parameters) if len(query) > _CACHED else _cached(query, parameters)


def _inspect(query: str, parameters: bool) -> Statement:
    if "\0" in query:  # the parser stops there
        return Statement(query, refusal="it contains a zero byte")
    try:
        text, order = _numbered(query) if parameters else (query, ())
        parsed = pglast.parse_sql(text)
    except (pglast.Error, RecursionError, ValueError) as error:
        # The parser's message quotes the statement, and that may hold values.
        why = str(error) if isinstance(error, _Placeholders) else "it cannot be parsed"
        return Statement(query, refusal=why)
    if len(parsed) != 1:
        return Statement(query, refusal=f"it is {len(parsed)} statements, not one")
    nodes = tuple(_walk(parsed[0].stmt))
    tables = frozenset((n.schemaname or "", n.relname) for n in nodes if isinstance(n, ast.RangeVar))
    refusal = next((why for n in nodes if (why := _refusal(n))), "")
    return Statement(text, order, tables, refusal)


_cached = lru_cache(maxsize=4096)(_inspect)


class _Placeholders(ValueError):
    """Placeholders that cannot be numbered."""


def _numbered(query: str) -> tuple[str, tuple[str | int, ...]]:
    """%s and %(name)s as $1, $2, ... and %% as %, as psycopg does it."""
    places: dict[str | int, int] = {}
    named: set[bool] = set()

    def number(match: re.Match[str]) -> str:
        name, kind = match.groups()
        if kind == "%" and name is None:
            return "%"
        if kind is None or kind not in "sbt":
            raise _Placeholders("only %s, %b, %t, %(name)s and %% may follow a parameter's %")
        named.add(name is not None)
        key: str | int = len(places) if name is None else name
        return f"${places.setdefault(key, len(places) + 1)}"

    text = _PLACEHOLDER.sub(number, query)
    if len(named) > 1:
        raise _Placeholders("named and positional placeholders cannot be mixed")
    return text, tuple(places)


def _walk(node: Any) -> Iterator[Any]:
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, ast.Node):
            yield item
            stack.extend(getattr(item, name) for name in item)
        elif isinstance(item, tuple | list):
            stack.extend(item)


def _refusal(node: Any) -> str:
    """Why a statement with this node in it is refused in any scope; empty when it is not."""
    kind = type(node).__name__
    if isinstance(node, ast.FuncCall):
        return _forbidden(tuple(part.sval for part in node.funcname))
    if isinstance(node, ast.IntoClause):
        return "SELECT INTO makes a table"
    if isinstance(node, ast.RangeVar) and node.relname in _SESSION_VIEWS:
        return f"it reads {node.relname}, where other transactions' statements are"
    if kind.endswith("Stmt") and not isinstance(node, _ALLOWED):
        return f"{kind.removesuffix('Stmt')} is not for a tenant scope"
    target = getattr(node, "relation", None) if isinstance(node, _ALLOWED) else None
    if target is not None and (target.schemaname in _CATALOGS or target.relname.startswith("pg_")):
        return f"it writes to {target.relname}"
    return ""


def _forbidden(parts: tuple[str, ...]) -> str:
    own = len(parts) > 1 and parts[-2] == "tenantproof"
    name = parts[-1]
    return f"it calls {name}()" if own or name in _FUNCTIONS or name.startswith(_PREFIXES) else ""
