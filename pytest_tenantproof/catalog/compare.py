"""Two snapshots, object by object: what isolation depends on and is not as it was declared.

What varies without weakening anything is left out: comments, statistics, indexes that enforce nothing, the
order of columns, versions of extensions, and rights that an administrator holds anyway.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pytest_tenantproof.catalog.model import Function, Grant, Snapshot, Table

__all__ = ["PLATFORM", "Difference", "differences"]

PLATFORM = frozenset(
    (
        *("auth", "storage", "realtime", "vault", "extensions", "graphql", "graphql_public", "net", "pgsodium"),
        *("pgsodium_masks", "supabase_functions", "supabase_migrations", "_realtime", "_analytics", "pgbouncer"),
        *("cron", "tenantproof", "pgmq", "information_schema", "pg_catalog", "pg_toast"),
    )
)
"""Schemas that a platform (Supabase's) or this tool keeps; no product declares them."""

_GUARDS = frozenset(("constraint", "policy", "trigger", "grants", "function", "role", "membership", "event trigger"))
_GUARD_FIELDS = frozenset(
    (
        *("row_security", "row_security_forced", "owner", "options", "not_null", "not_null_valid", "rules"),
        *("definition", "persistence"),
    )
)
_IGNORED = frozenset(
    (
        *("grants", "extension", "cost", "columns", "constraints", "indexes", "triggers", "policies", "owned_by"),
        *("reads", "calls", "inherited"),
    )
)
_LONGEST = 160

Admin = Callable[[str], bool]
Parts = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that is not as declared. `weakens`: whether it is a protection, or may undo one."""

    object: str
    detail: str
    weakens: bool


def differences(declared: Snapshot, found: Snapshot, schemas: tuple[str, ...], is_admin: Admin) -> list[Difference]:
    """What differs in the declared schemas and in `schemas`. `is_admin` says of a role whether it is one."""
    scope = ({s.name for s in declared.schemas} | set(schemas)) - (PLATFORM - set(schemas))
    wanted, there = _parts(declared, scope, is_admin), _parts(found, scope, is_admin)
    result = []
    for key in sorted(wanted.keys() | there.keys()):
        kind, name = key
        if key not in there:
            result.append(Difference(name, f"{kind} is declared and missing", kind in _GUARDS or kind == "table"))
        elif key not in wanted:
            if kind not in ("extension", "schema"):
                result.append(Difference(name, f"{kind} is not declared{_shown(there[key])}", _opens(kind)))
        else:
            result += _changed(kind, name, wanted[key], there[key])
    return result


def _opens(kind: str) -> bool:
    """Whether something more of this kind can let somebody in."""
    return kind not in ("type", "sequence", "column", "constraint")


def _shown(fields: dict[str, Any]) -> str:
    text = next((str(fields[f]) for f in ("definition", "using", "privileges") if fields.get(f)), "")
    return f": {_short(text)}" if text else ""


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _changed(kind: str, name: str, wanted: dict[str, Any], there: dict[str, Any]) -> Iterator[Difference]:
    for field, value in wanted.items():
        if (now := there[field]) != value:
            guards = kind in _GUARDS or field in _GUARD_FIELDS
            yield Difference(name, f"{kind}: {field} is {_apart(value, now)}", guards)


def _apart(wanted: Any, now: Any) -> str:
    """Both texts from where they part, so that a long body shows the line that was changed."""
    a, b = " ".join(str(wanted).split()), " ".join(str(now).split())
    if len(a) <= _LONGEST and len(b) <= _LONGEST:
        return f"{b or 'none'}, declared is {a or 'none'}"
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    at = max(at - 30, 0)
    return f"changed: ...{_short(b[at:])} instead of ...{_short(a[at:])}"


def _parts(snapshot: Snapshot, scope: set[str], is_admin: Admin) -> Parts:
    """Everything by (kind, name), with the fields that count."""
    parts: Parts = {}
    for table in snapshot.tables:
        if table.schema in scope and not table.extension:
            _add_table(parts, table, is_admin)
    for function in snapshot.functions:
        if function.schema in scope and not function.extension:
            parts["function", function.signature] = _fields(function, is_admin)
            _add_grants(parts, function.signature, function.grants, function.owner, is_admin)
    for type_ in snapshot.types:
        if type_.name.partition(".")[0] in scope and not type_.extension:
            parts["type", type_.name] = _fields(type_, is_admin)
    for schema in snapshot.schemas:
        if schema.name in scope and not schema.extension:
            parts["schema", schema.name] = _fields(schema, is_admin)
            _add_grants(parts, schema.name, schema.grants, schema.owner, is_admin)
    _add_roles(parts, snapshot, is_admin)
    _add_rest(parts, snapshot, scope, is_admin)
    return parts


def _fields(item: Any, is_admin: Admin) -> dict[str, Any]:
    values = {f.name: getattr(item, f.name) for f in dataclasses.fields(item) if f.name not in _IGNORED}
    values.pop("name", None)
    if "owner" in values:
        values["owner"] = "an administrator" if is_admin(values["owner"]) else values["owner"]
    if isinstance(item, Function):
        # What pg_get_functiondef() writes repeats the fields beside it.
        values.pop("definition")
    return values


def _add_table(parts: Parts, table: Table, is_admin: Admin) -> None:
    parts[table.kind if table.kind != "partitioned" else "table", table.name] = _fields(table, is_admin)
    _add_grants(parts, table.name, table.grants, table.owner, is_admin)
    for column in table.columns:
        name = f"{table.name}.{column.name}"
        parts["column", name] = _fields(column, is_admin)
        _add_grants(parts, name, column.grants, table.owner, is_admin)
    for constraint in table.constraints:
        parts["constraint", f"{table.name} {constraint.name}"] = _fields(constraint, is_admin)
    for trigger in table.triggers:
        parts["trigger", f"{table.name} {trigger.name}"] = _fields(trigger, is_admin)
    for policy in table.policies:
        parts["policy", f"{table.name} {policy.name}"] = _fields(policy, is_admin)
    for index in table.indexes:
        if (index.unique or index.exclusion) and not index.constraint:
            parts["constraint", f"{table.name} {index.name}"] = _fields(index, is_admin)


def _add_grants(parts: Parts, name: str, grants: tuple[Grant, ...], owner: str, is_admin: Admin) -> None:
    held: dict[str, list[str]] = {}
    for grant in grants:
        if grant.grantee != owner and not is_admin(grant.grantee):
            held.setdefault(grant.grantee, []).append(f"{grant.privilege}{'*' if grant.grantable else ''}")
    for grantee, privileges in held.items():
        parts["grants", f"{name} to {grantee}"] = {"privileges": ", ".join(sorted(privileges))}


def _add_roles(parts: Parts, snapshot: Snapshot, is_admin: Admin) -> None:
    """Roles that the product declares; a platform's other roles are judged by what they hold."""
    for role in snapshot.roles:
        if not is_admin(role.name):
            parts["role", role.name] = _fields(role, is_admin)
    for m in snapshot.memberships:
        if not (is_admin(m.member) or m.role.startswith("pg_")):
            parts["membership", f"{m.member} in {m.role}"] = {"admin": m.admin, "inherit": m.inherit, "set": m.set}


def _add_rest(parts: Parts, snapshot: Snapshot, scope: set[str], is_admin: Admin) -> None:
    for default in snapshot.default_privileges:
        if not default.schema or default.schema in scope:
            owner = "an administrator" if is_admin(default.owner) else default.owner
            where = f"default privileges on {default.kind} by {owner} in {default.schema or 'every schema'}"
            _add_grants(parts, where, default.grants, default.owner, is_admin)
    for setting in snapshot.settings:
        if not is_admin(setting.role):
            parts["setting", f"{setting.role or 'all roles'} {setting.name}"] = {"value": setting.value}
    for publication in snapshot.publications:
        parts["publication", publication.name] = _fields(publication, is_admin)
    for trigger in snapshot.event_triggers:
        parts["event trigger", trigger.name] = _fields(trigger, is_admin)
    for extension in snapshot.extensions:
        parts["extension", extension.name] = {}
    for server in snapshot.servers:
        parts["foreign server", server.name] = _fields(server, is_admin)
    for operator in snapshot.operators:
        if operator.name.partition(".")[0] in scope:
            sides = f"{operator.name} ({operator.left}, {operator.right})"
            parts["operator", sides] = _fields(operator, is_admin)
    for cast in snapshot.casts:
        parts["cast", f"{cast.source} to {cast.target}"] = _fields(cast, is_admin)
