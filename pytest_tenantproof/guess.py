"""What a catalog looks like: where the tenants are, who belongs to them, what requests act as.

Guesses by names and keys, for a person to confirm; nothing is taken for harmless.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pglast import ast, enums
from pglast.stream import RawStream

from pytest_tenantproof.catalog import Snapshot
from pytest_tenantproof.catalog.compare import PLATFORM
from pytest_tenantproof.catalog.model import Function, Table
from pytest_tenantproof.catalog.names import singular
from pytest_tenantproof.catalog.recording import parsed

__all__ = ["RECORDS", "Guess", "guess"]

_COLUMNS = (
    "tenant_id",
    "organization_id",
    "organisation_id",
    "org_id",
    "account_id",
    "workspace_id",
    "company_id",
    "team_id",
    "customer_id",
)
_USERS = ("user_id", "profile_id", "member_id", "account_user_id")


_SETTING = re.compile(r"current_setting\((?:CAST\()?'([\w.]+)'")
RECORDS = ("public.backup_runs", "public.canary_runs", "public.restore_drills")
"""This tool's own records (migrations/003, 004): global, and the only tables that are taken for such unasked."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What a schema looks like. "" and () where nothing was found: then a person has to say."""

    tenant_table: str
    tenant_columns: tuple[str, ...]
    schemas: tuple[str, ...]
    membership_tables: tuple[str, ...]
    user_column: str
    child_tables: tuple[tuple[str, str], ...]
    global_tables: tuple[str, ...]
    records: tuple[str, ...]
    accessors: tuple[str, ...]
    audit_tables: tuple[str, ...]
    client_roles: tuple[str, ...]
    client_settings: tuple[str, ...]
    user_tables: tuple[str, ...]
    service_roles: tuple[str, ...]
    scoped_roles: tuple[str, ...]


def guess(snapshot: Snapshot) -> Guess:
    """Reads a catalog for the product's own names; the person confirms them in the written file."""
    own = [t for t in snapshot.tables if t.schema not in PLATFORM and t.kind in ("table", "partitioned")]
    counted = Counter(c.name for t in own for c in t.columns if _bare(c.name) in map(_bare, _COLUMNS))
    columns = tuple(name for name, _ in counted.most_common(1)) or _most_referenced(own)
    tenants = [t for t in own if any(t.column(name) for name in columns)]
    members = tuple(t.name for t in tenants if _is_membership(t, columns))
    roles = {r.name for r in snapshot.roles}
    audit = tuple(t.name for t in tenants if "audit" in t.name and not t.is_partition)
    registry = _registry(tenants, columns)
    users = _users_tables(tenants, members)
    rest = [t for t in own if t not in tenants and t.name not in (registry, *users) and not t.is_partition]
    accessors = [f for f in snapshot.functions if _is_accessor(f, columns)]
    compared = _compared_with(tenants, columns)
    children = tuple((t.name, column) for t in rest if (column := _column_to({x.name for x in tenants}, t)))
    return Guess(
        tenant_table=registry,
        tenant_columns=columns,
        schemas=tuple(sorted({t.schema for t in tenants})),
        membership_tables=members,
        user_column=_user_column([t for t in tenants if t.name in members]),
        child_tables=children,
        global_tables=tuple(
            t.name
            for t in rest
            if t.schema in {x.schema for x in tenants} and t.name not in {*RECORDS, *(name for name, _ in children)}
        ),
        records=tuple(t.name for t in own if t.name in RECORDS),
        accessors=tuple(sorted({f"{f.name}()" for f in accessors})) or compared,
        audit_tables=audit,
        client_roles=_clients(snapshot, tenants),
        client_settings=_settings_in(*(f.body for f in accessors), *compared),
        user_tables=users,
        service_roles=tuple(r for r in ("service_role",) if r in roles),
        scoped_roles=tuple(r for r in ("app_scoped",) if r in roles),
    )


def _most_referenced(own: list[Table]) -> tuple[str, ...]:
    """Where no column has a known name: the one by which most tables point at one and the same, users aside."""
    keys = [c for t in own for c in t.constraints if c.kind == "foreign" and len(c.columns) == 1 and c.target != t.name]
    keys = [c for c in keys if singular(_bare(c.target.rpartition(".")[2].strip('"'))) not in ("user", "profile")]
    counted = Counter((c.columns[0], c.target) for c in keys)
    return tuple(column for (column, _), tables in counted.most_common(1) if tables > 1)


def _bare(name: str) -> str:
    """A name without its style: organization_id and organizationId are the same."""
    return name.replace("_", "").lower()


def _is_membership(table: Table, columns: tuple[str, ...]) -> bool:
    """A tenant's column and a user's: by the table's name, because the pair of them is a key, or because a row is a
    user's profile."""
    users = _user_columns(table)
    held = [c for c in columns if table.column(c)]
    named = any(word in table.name.lower() for word in ("member", "user_role", "users", "profile"))
    keys = [set(c.columns) for c in table.constraints if c.kind in ("primary", "unique")]
    keys += [set(i.columns) for i in table.indexes if i.unique]
    return bool(users and held) and (named or any({c, u} in keys for c in held for u in users))


def _user_columns(table: Table) -> list[str]:
    """Columns by a user's name, and a key of its own that is a user's."""
    primary = [c.columns for c in table.constraints if c.kind == "primary"]
    keys = [c for c in table.constraints if c.kind == "foreign" and c.columns in primary and len(c.columns) == 1]
    profile = [c.columns[0] for c in keys if c.target.rpartition(".")[2].strip('"').lower() in ("user", "users")]
    named = [c.name for u in _USERS for c in table.columns if _bare(c.name) == _bare(u)]
    return named or profile


def _user_column(members: list[Table]) -> str:
    """A column by a user's name before a key of its own: of tables without it the key is known to be the user's."""
    named = [u for t in members for u in _user_columns(t)[:1]]
    return next((u for u in named if _bare(u) in map(_bare, _USERS)), next(iter(named), "user_id"))


def _clients(snapshot: Snapshot, tenants: list[Table]) -> tuple[str, ...]:
    """The platform's roles where this database uses them; else what the application logs in as."""
    names = {r.name for r in snapshot.roles}
    platform = tuple(r for r in ("anon", "authenticated") if r in names)
    used = {g.grantee for t in tenants for g in t.grants} | {r for t in tenants for p in t.policies for r in p.roles}
    logins = _users_of(snapshot, tenants)
    return platform if used & set(platform) or not logins else logins


def _users_of(snapshot: Snapshot, tenants: list[Table]) -> tuple[str, ...]:
    """Logins that row security binds and that hold privileges on tenants' tables: what the application connects as."""
    bound = {r.name for r in snapshot.roles if r.login and not (r.superuser or r.bypass_rls)}
    owners = {t.owner for t in tenants}
    return tuple(sorted({g.grantee for t in tenants for g in t.grants if g.grantee in bound} - owners))


def _users_tables(tenants: list[Table], members: tuple[str, ...]) -> tuple[str, ...]:
    """What the user's column of a membership points at."""
    keys = [(t, c) for t in tenants if t.name in members for c in t.constraints if c.kind == "foreign"]
    return tuple(sorted({c.target for t, c in keys if list(c.columns) == _user_columns(t)[:1]}))


def _settings_in(*texts: str) -> tuple[str, ...]:
    """Settings of the product's own that the texts read."""
    found = {name for text in texts for name in _SETTING.findall(text)}
    return tuple(sorted(name for name in found if not name.startswith("request.")))


def _compared_with(tenants: list[Table], columns: tuple[str, ...]) -> tuple[str, ...]:
    """What most policies compare the tenant's column with, where that is a setting of the product's own."""
    texts = [text for t in tenants for p in t.policies for text in (p.using, p.check) if _SETTING.search(text)]
    found = Counter(side for text in texts for side in _sides(text, columns))
    return tuple(side for side, _ in found.most_common(1))


def _sides(text: str, columns: tuple[str, ...]) -> Iterator[str]:
    """Of each `column = expression` the expression, where it reads a setting and no column."""
    for node in _nodes(parsed(f"SELECT {text}")):
        if not (isinstance(node, ast.A_Expr) and node.kind == enums.A_Expr_Kind.AEXPR_OP and node.name[0].sval == "="):
            continue
        for one, other in ((node.lexpr, node.rexpr), (node.rexpr, node.lexpr)):
            if not (isinstance(one, ast.ColumnRef) and one.fields[-1].sval in columns):
                continue
            shown = RawStream()(other)
            if _SETTING.search(shown) and not any(isinstance(n, ast.ColumnRef) for n in _nodes(other)):
                yield shown


def _nodes(node: Any) -> Iterator[Any]:
    if isinstance(node, ast.Node):
        yield node
        for name in node:
            yield from _nodes(getattr(node, name))
    elif isinstance(node, tuple):
        for item in node:
            yield from _nodes(item)


def _column_to(parents: set[str], table: Table) -> str:
    """The column of a mandatory single-column key to one of the parents."""
    for key in table.constraints:
        column = table.column(key.columns[0]) if key.columns else None
        if key.kind == "foreign" and len(key.columns) == 1 and key.target in parents and column and column.not_null:
            return column.name
    return ""


def _registry(tenants: list[Table], columns: tuple[str, ...]) -> str:
    targets = Counter(
        c.target for t in tenants for c in t.constraints if c.kind == "foreign" and c.columns == columns[:1]
    )
    return next((name for name, _ in targets.most_common(1)), "")


def _is_accessor(function: Function, columns: tuple[str, ...]) -> bool:
    """A function without arguments that gives one id, and whose name speaks of the caller's tenant."""
    gives_one = function.returns.removeprefix("pg_catalog.") in (
        "uuid",
        "text",
        "bigint",
        "integer",
        "character varying",
    )
    stems = {_bare(c).removesuffix("id") for c in columns}
    bare = _bare(function.name.rpartition(".")[2])
    spoken = any(s in bare for s in stems) and any(word in bare for word in ("current", "get", "active", "my"))
    return gives_one and not function.arguments and spoken
