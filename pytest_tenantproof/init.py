"""tenantproof init: looks at a database and writes a commented tenantproof.toml and .env.example from it."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pytest_tenantproof.catalog import Snapshot, read_snapshot, to_json
from pytest_tenantproof.catalog.compare import PLATFORM
from pytest_tenantproof.catalog.model import Function, Table
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import UsageError
from pytest_tenantproof.target import open_session

__all__ = ["Guess", "guess", "run"]

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
_CLAIM = ("(auth.jwt() -> 'app_metadata' ->> 'tenant_id')::uuid",)
_USERS = ("user_id", "profile_id", "member_id", "account_user_id")


_SETTING = re.compile(r"current_setting\('([\w.]+)'")
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
    service_roles: tuple[str, ...]
    scoped_roles: tuple[str, ...]


def guess(snapshot: Snapshot) -> Guess:
    """Reads a catalog for the product's own names; the person confirms them in the written file."""
    own = [t for t in snapshot.tables if t.schema not in PLATFORM and t.kind in ("table", "partitioned")]
    counted = Counter(c.name for t in own for c in t.columns if c.name in _COLUMNS)
    columns = tuple(name for name, _ in counted.most_common(1))
    tenants = [t for t in own if any(t.column(name) for name in columns)]
    members = tuple(t.name for t in tenants if _is_membership(t, columns))
    roles = {r.name for r in snapshot.roles}
    audit = tuple(t.name for t in tenants if "audit" in t.name and not t.is_partition)
    registry = _registry(tenants, columns)
    rest = [t for t in own if t not in tenants and t.name != registry and not t.is_partition]
    children = tuple((t.name, column) for t in rest if (column := _column_to({x.name for x in tenants}, t)))
    return Guess(
        tenant_table=registry,
        tenant_columns=columns,
        schemas=tuple(sorted({t.schema for t in tenants})),
        membership_tables=members,
        user_column=next((u for t in tenants if t.name in members for u in _user_columns(t)), "user_id"),
        child_tables=children,
        global_tables=tuple(
            t.name
            for t in rest
            if t.schema in {x.schema for x in tenants} and t.name not in {*RECORDS, *(name for name, _ in children)}
        ),
        records=tuple(t.name for t in own if t.name in RECORDS),
        accessors=tuple(sorted({f"{f.name}()" for f in snapshot.functions if _is_accessor(f, columns)})),
        audit_tables=audit,
        client_roles=tuple(r for r in ("anon", "authenticated") if r in roles) or _users_of(snapshot, tenants),
        client_settings=_settings_in(tenants),
        service_roles=tuple(r for r in ("service_role",) if r in roles),
        scoped_roles=tuple(r for r in ("app_scoped",) if r in roles),
    )


def _is_membership(table: Table, columns: tuple[str, ...]) -> bool:
    """A tenant's column and a user's: by the table's name, because the pair of them is a key, or because a row is a
    user's profile."""
    users = _user_columns(table)
    held = [c for c in columns if table.column(c)]
    named = any(word in table.name for word in ("member", "user_role", "users", "profile"))
    keys = [set(c.columns) for c in table.constraints if c.kind in ("primary", "unique")]
    keys += [set(i.columns) for i in table.indexes if i.unique]
    return bool(users and held) and (named or any({c, u} in keys for c in held for u in users))


def _user_columns(table: Table) -> list[str]:
    """Columns by a user's name, and a key of its own that is a user's."""
    primary = [c.columns for c in table.constraints if c.kind == "primary"]
    profile = [
        c.columns[0]
        for c in table.constraints
        if c.kind == "foreign"
        and c.target.rpartition(".")[2] == "users"
        and c.columns in primary
        and len(c.columns) == 1
    ]
    return [u for u in _USERS if table.column(u)] or profile


def _users_of(snapshot: Snapshot, tenants: list[Table]) -> tuple[str, ...]:
    """Logins that row security binds and that hold privileges on tenants' tables: what the application connects as."""
    bound = {r.name for r in snapshot.roles if r.login and not (r.superuser or r.bypass_rls)}
    owners = {t.owner for t in tenants}
    return tuple(sorted({g.grantee for t in tenants for g in t.grants if g.grantee in bound} - owners))


def _settings_in(tenants: list[Table]) -> tuple[str, ...]:
    """Settings of the product's own that its policies read."""
    texts = [text for t in tenants for p in t.policies for text in (p.using, p.check)]
    found = {name for text in texts for name in _SETTING.findall(text)}
    return tuple(sorted(name for name in found if not name.startswith("request.")))


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
    stems = {c.removesuffix("_id") for c in columns}
    bare = function.name.rpartition(".")[2]
    spoken = any(s in bare for s in stems) and any(word in bare for word in ("current", "get", "active", "my_"))
    return gives_one and not function.arguments and spoken


def _quoted(text: str) -> str:
    """A TOML basic string; whatever a name in a database holds stays inside it."""
    return json.dumps(text)


def _listed(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(map(_quoted, values)) + "]"


def _children(found: Guess) -> str:
    """Sections for the tables whose rows are their parent row's tenant's."""
    if not found.child_tables:
        return ""
    sections = "".join(
        f"[[tenantproof.child_tables]]\ntable = {_quoted(table)}\ncolumn = {_quoted(column)}\n\n"
        for table, column in found.child_tables
    )
    return (
        f"# Without a tenant column of their own: whose a row is, the row says that this column points at.\n{sections}"
    )


def _trusted_settings(found: Guess) -> str:
    """Settings that policies read are never trusted unasked: a client that runs SQL of its own sets them."""
    if not found.client_settings:
        return ""
    return (
        "# Policies read these settings. Whoever runs SQL of their own can set them: trust them only where clients\n"
        "# cannot, and name them in trusted_tenant_expressions too.\n"
        f"# trusted_settings = {_listed(found.client_settings)}\n"
    )


def config_text(found: Guess, migrations: str) -> str:
    """The commented tenantproof.toml."""
    return f"""# Written by `tenantproof init` from the database's catalog. Read each line: the proof rests on it.
[tenantproof]
# The table with one row a customer, and the column(s) that say whose a row is.
tenant_table = {_quoted(found.tenant_table)}
tenant_column = {_listed(found.tenant_columns)}
# Every table in these schemas must have that column or be named below.
schemas = {_listed(found.schemas)}
# Tables that are the same for all customers. None is taken for granted: a wrong entry hides a leak.
# Without a tenant column here: {_listed(found.global_tables)}
global_tables = {_listed(found.records)}
# Who belongs to which customer, and the column that holds the user.
membership_tables = {_listed(found.membership_tables)}
user_column = {_quoted(found.user_column)}
# SQL that gives the caller's customer, NULL without one. Policies must compare with exactly this, or look the caller
# up in a table of memberships (functions that do so are followed).
trusted_tenant_expressions = {_listed(found.accessors or (() if found.membership_tables else _CLAIM))}
audit_tables = {_listed(found.audit_tables)}
# What requests act as. Row security binds these roles; every control looks at what they can do.
client_roles = {_listed(found.client_roles)}
{_trusted_settings(found)}service_roles = {_listed(found.service_roles)}
# What server code acts as through the tenant-scoped client (docs/CLIENT.md).
scoped_roles = {_listed(found.scoped_roles)}
# Folder of the SQL migrations; "" if there are none (then record the catalog with `tenantproof init --lock`).
migrations = {_quoted(migrations)}

{_children(found)}# live: read-only, enforced by the server, signing key required. staging: writes are rolled back.
[tenantproof.targets.prod]
class = "live"
signing = "required"

[tenantproof.targets.staging]
class = "staging"
restorable = true

# Backups: where they go (s3://bucket/prefix, b2://bucket/prefix or a folder), and whose keys can read them.
[tenantproof.backup]
store = ""
recipients = []

# Guards: code that must use the tenant-scoped client, scripts that must ask the gate, built front-end files. Unset,
# their controls are not run; [] says that there is nothing of the kind.
[tenantproof.guard]
# code_paths = ["server"]
# client_modules = ["server/database.py"]
# script_paths = ["scripts"]
# client_bundles = ["dist"]

# Alerts: Slack's webhook and the mail server are secrets and come from the environment (tenantproof notify --test).
[tenantproof.notify]
email_from = ""
email_to = []
# slack = ["critical", "high", "medium", "low", "proven"]  # severities; "proven" are summaries of good runs
# email = ["critical", "high"]
"""


def _env_text() -> str:
    """The documented variables: the file that this product's own tests keep complete."""
    shipped = resources.files("pytest_tenantproof").joinpath("_docs", "env.example")
    checkout = Path(__file__).parents[1] / ".env.example"
    return shipped.read_text("utf-8") if shipped.is_file() else checkout.read_text("utf-8")


_INPUTS = (
    ("production", "TENANTPROOF_PROD_DSN", "none: --evidence=prod does not start", ".env"),
    ("staging", "TENANTPROOF_STAGING_DSN", "none: probes and drills run on the embedded target only", ".env"),
    (
        "signing key",
        "TENANTPROOF_SIGNING_KEY_FILE",
        "a new key for each scratch run; live ones do not start",
        ".env",
    ),
    ("alert channel", "TENANTPROOF_SLACK_WEBHOOK", "none: failures show in exit statuses and bundles only", ".env"),
    ("storage", "", "none: `backup` refuses, and the 6xx controls are not run", "store in [tenantproof.backup]"),
    ("code and front end", "", "none: TP411 to TP414 are not run", "paths in [tenantproof.guard]"),
    ("backup readers", "", "none: `backup` refuses", "recipients in [tenantproof.backup]"),
)


def _missing(found: Guess) -> Iterator[str]:
    """Each input that nobody gave, the default taken for it, and where to set it."""
    empty = {"tenant_table": found.tenant_table, "tenant_column": found.tenant_columns, "schemas": found.schemas}
    for key, value in empty.items():
        if not value:
            yield f"still missing: {key} (default taken: none, nothing can be proven; set it in tenantproof.toml)"
    for what, variable, default, where in _INPUTS:
        if not (variable and os.environ.get(variable)):
            named = f"{what} ({variable})" if variable else what
            yield f"still missing: {named} (default taken: {default}; set it in {where})"


def _migrations_in(folder: Path) -> str:
    return next((name for name in ("migrations", "supabase/migrations") if (folder / name).is_dir()), "")


def run(dsn: str | None, folder: Path, *, lock: bool, settings: Settings) -> tuple[int, dict[str, Any], list[str]]:
    """Writes the files and says what is still missing, with status 2 when that is where the tenants are.

    Never overwrites. Raises UsageError or TargetError.
    """
    dsn = dsn or os.environ.get("TENANTPROOF_INIT_DSN", "")
    if not dsn:
        raise UsageError("no database to look at.", remedy="set TENANTPROOF_INIT_DSN or pass --dsn.")
    connection, _ = open_session(dsn, "init", "live")
    with connection:
        snapshot = read_snapshot(connection)
    found = guess(snapshot)
    texts = {
        folder / "tenantproof.toml": config_text(found, _migrations_in(folder)),
        folder / ".env.example": _env_text(),
    }
    if lock:
        texts = {folder / settings.lock: to_json(snapshot).decode("ascii") + "\n"}
    for path in texts:
        if path.exists() and not lock:
            raise UsageError(f"{path} exists.", remedy="move it away, or edit it by hand.")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    missing = list(_missing(found))
    written = [str(path) for path in texts]
    status = 0 if lock or found.tenant_table else 2
    return status, {"written": written, "missing": missing}, [*(f"wrote {path}" for path in written), *missing]
