"""The shape of tenantproof.toml. Every field is a key; its docstring line is its documentation."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_tenantproof.config.attestation import Attestation
from pytest_tenantproof.config.backup import BackupSettings
from pytest_tenantproof.config.canary import CanarySettings
from pytest_tenantproof.config.drill import DrillSettings
from pytest_tenantproof.config.elsewhere import ElsewhereSettings
from pytest_tenantproof.config.guard import GuardSettings
from pytest_tenantproof.config.notify import NotifySettings
from pytest_tenantproof.config.timestamp import TimestampSettings
from pytest_tenantproof.errors import ConfigError, UsageError
from pytest_tenantproof.model import Waiver

__all__ = ["ChildTable", "DerivedTable", "Reference", "Settings", "TargetSettings", "environment_name"]

TargetClass = Literal["live", "staging", "scratch"]


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """[tenantproof.targets.NAME]"""

    class_: TargetClass = "live"
    """live: read-only, enforced; staging: writes are rolled back; scratch: may be created and dropped."""
    signing: Literal["required", "optional"] = "required"
    """Whether a run without a signing key may start. A live target always needs one."""
    restorable: bool = False
    """Whether `restore` may replace this database."""
    database_host_allow: tuple[str, ...] = ()
    """Hosts on which demo and destructive scripts may run (never for a live target)."""


@dataclass(frozen=True, slots=True)
class Reference:
    """[[tenantproof.references]]: a reference that a trigger enforces, because no foreign key can."""

    column: str
    """schema.table.column that holds the id."""
    to: Mapping[str, str]
    """Discriminator value -> schema.table; {"*": "schema.table"} where there is no discriminator."""
    discriminator: str = ""
    """Column of the same table that says which table is meant."""


@dataclass(frozen=True, slots=True)
class DerivedTable:
    """[[tenantproof.derived_tables]]: a table whose tenant is computed from another column."""

    table: str
    """The table, as schema.table."""
    tenant: str
    """SQL over the row that gives the tenant as text, e.g. (storage.foldername(name))[1]."""
    prefix: str = ""
    """Constant text before the tenant, e.g. 'tenant:' where topics read tenant:<id>."""
    constant_columns: tuple[str, ...] = ()
    """Columns that each policy must also pin to a constant, e.g. bucket_id."""


@dataclass(frozen=True, slots=True)
class ChildTable:
    """[[tenantproof.child_tables]]: a table without a tenant column, whose tenant is its parent row's."""

    table: str
    """The table, as schema.table."""
    column: str
    """Column of a NOT NULL foreign key that holds, to a tenant table or to another child table."""


@dataclass(frozen=True, slots=True)
class Settings:
    """[tenantproof]"""

    tenant_table: str = "public.tenants"
    """The registry of tenants."""
    tenant_column: tuple[str, ...] = ("tenant_id",)
    """Column(s) that hold a row's tenant; a list where schemas differ."""
    schemas: tuple[str, ...] = ("public",)
    """Schemas whose tables must all be classified."""
    global_tables: tuple[str, ...] = ()
    """Tables without a tenant on purpose; everything else without a tenant column is a finding."""
    trusted_tenant_expressions: tuple[str, ...] = ("app.current_tenant_id()",)
    """SQL expressions that give the caller's tenant (NULL without one)."""
    trusted_user_expressions: tuple[str, ...] = ("auth.uid()",)
    """SQL expressions that give the caller's user id (NULL without one)."""
    trusted_settings: tuple[str, ...] = ("request.jwt.claims", "request.jwt.claim", "request.jwt.claim.*")
    """Settings that only the gateway sets; policies and accessors may read no other."""
    membership_tables: tuple[str, ...] = ()
    """Tables that say which user belongs to which tenant."""
    user_column: str = "user_id"
    """Column of a membership table that holds the user."""
    user_tables: tuple[str, ...] = ("auth.users",)
    """Identity tables, which belong to no tenant."""
    audit_tables: tuple[str, ...] = ()
    """Append-only audit logs."""
    client_roles: tuple[str, ...] = ("anon", "authenticated")
    """Roles that end users act as."""
    anonymous_roles: tuple[str, ...] = ("anon",)
    """Those of the client roles that act without a login."""
    service_roles: tuple[str, ...] = ("service_role",)
    """Back-end roles that may bypass row security."""
    scoped_roles: tuple[str, ...] = ()
    """Back-end roles that are bound to one tenant per transaction."""
    auditor_roles: tuple[str, ...] = ()
    """Login roles of auditors; they may read the catalog, and no tenant's rows."""
    admin_roles: tuple[str, ...] = (
        "postgres",
        "supabase_*",
        "dashboard_user",
        "pgbouncer",
        "rds*",
        "cloudsql*",
        "azure_*",
        "neon_superuser",
        "tenantproof_counter",
    )
    """Administrators (patterns): roles that may be superuser, bypass row security or own objects."""
    exposed_schemas: tuple[str, ...] = ()
    """Schemas the API serves; default: `schemas`."""
    exposed_functions: tuple[str, ...] = ()
    """SECURITY DEFINER functions that clients may call on purpose, by signature."""
    realtime_publications: tuple[str, ...] = ("supabase_realtime",)
    """Publications that the platform filters by row security."""
    references: tuple[Reference, ...] = ()
    derived_tables: tuple[DerivedTable, ...] = ()
    child_tables: tuple[ChildTable, ...] = ()
    migrations: str = "migrations"
    """Folder of the migrations, relative to the config file."""
    lock: str = "tenantproof.lock"
    """The approved catalog where there are no migrations."""
    controls: tuple[str, ...] = ()
    """Your own @control files, relative to the config file."""
    targets: Mapping[str, TargetSettings] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    backup: BackupSettings = field(default_factory=BackupSettings)
    drill: DrillSettings = field(default_factory=DrillSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
    guard: GuardSettings = field(default_factory=GuardSettings)
    canary: CanarySettings = field(default_factory=CanarySettings)
    elsewhere: ElsewhereSettings = field(default_factory=ElsewhereSettings)
    timestamp: TimestampSettings = field(default_factory=TimestampSettings)
    root: Path = field(default_factory=Path.cwd, metadata={"internal": True})
    source: str = field(default="(defaults)", metadata={"internal": True})
    digest: str = field(default="", metadata={"internal": True})

    @property
    def exposed(self) -> tuple[str, ...]:
        return self.exposed_schemas or self.schemas

    def target(self, name: str) -> TargetSettings:
        """Settings of a target. `embedded` and `container` always exist (scratch). Raises UsageError."""
        if name in self.targets:
            return self.targets[name]
        if name in ("embedded", "container"):
            return TargetSettings(class_="scratch", signing="optional")
        known = ", ".join(sorted({"embedded", "container", *self.targets}))
        raise UsageError(
            f"unknown target {name!r}: {self.source} knows {known}.",
            remedy=f"add [tenantproof.targets.{name}] with a class to tenantproof.toml.",
        )

    def dsn(self, target: str, kind: Literal["", "WRITER", "PROBE"] = "") -> str:
        """The connection string from the environment. Raises ConfigError when it is unset or empty."""
        variable = environment_name(target, f"{kind}_DSN".lstrip("_"))
        if dsn := os.environ.get(variable, "").strip():
            return dsn
        raise ConfigError(
            f"target {target!r} has no connection string.",
            remedy=f"set {variable}, e.g. {variable}=postgresql://user@host/dbname",
        )


def environment_name(target: str, suffix: str) -> str:
    """TENANTPROOF_<TARGET>_<SUFFIX>, with what a variable name cannot hold as underscores."""
    return f"TENANTPROOF_{re.sub(r'[^A-Za-z0-9]', '_', target).upper()}_{suffix}"
