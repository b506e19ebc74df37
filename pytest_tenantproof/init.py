"""tenantproof init: looks at a database and writes a commented tenantproof.toml and .env.example from it."""

import json
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from pytest_tenantproof.catalog import read_snapshot, to_json
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import UsageError
from pytest_tenantproof.guess import Guess, guess
from pytest_tenantproof.target import open_session

__all__ = ["run"]

_CLAIM = ("(auth.jwt() -> 'app_metadata' ->> 'tenant_id')::uuid",)


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
        "# The caller is told by these settings. Whoever runs SQL of their own can set them: trust them only where\n"
        "# clients cannot.\n"
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
user_tables = {_listed(found.user_tables or ("auth.users",))}
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
