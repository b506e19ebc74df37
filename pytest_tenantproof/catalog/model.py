"""The catalog as one immutable value: everything isolation depends on, and nothing that varies by itself.

Names are as `format('%I.%I')` gives them, so they can be shown and pasted into SQL alike. No oids, no row
counts, no sizes: the same schema gives the same snapshot in any database. Sources: the pg_catalog tables
named at each class (PostgreSQL documentation, chapter "System Catalogs").
"""

from dataclasses import dataclass, field

from pytest_tenantproof.catalog.relations import (
    PUBLIC,
    Column,
    Constraint,
    Grant,
    Grants,
    Index,
    Policy,
    Rule,
    Table,
    Trigger,
)

__all__ = [
    "PUBLIC",
    "Cast",
    "Column",
    "Constraint",
    "Database",
    "DefaultPrivilege",
    "EventTrigger",
    "Extension",
    "ForeignServer",
    "Function",
    "Grant",
    "Index",
    "LargeObject",
    "Membership",
    "NamedGrants",
    "Operator",
    "Policy",
    "Publication",
    "PublishedTable",
    "ReplicationSlot",
    "Role",
    "Rule",
    "Schema",
    "Setting",
    "Snapshot",
    "Subscription",
    "Table",
    "Trigger",
    "Type",
    "UserMapping",
]


@dataclass(frozen=True, slots=True)
class Function:
    """pg_proc. `signature` is schema.name(argument types); `kind` function|procedure|aggregate|window;
    `volatility` immutable|stable|volatile; `config` holds name=value; `body` is prosrc, or the SQL-standard
    body as text; `returns` as pg_get_function_result() writes it ("trigger" for trigger functions)."""

    signature: str
    name: str
    schema: str
    arguments: tuple[str, ...]
    returns: str
    language: str
    owner: str
    kind: str = "function"
    volatility: str = "volatile"
    security_definer: bool = False
    leakproof: bool = False
    strict: bool = False
    config: tuple[str, ...] = ()
    body: str = ""
    cost: float = 100.0
    grants: Grants = ()
    extension: str = ""
    argument_names: tuple[str, ...] = ()
    definition: str = ""
    """pg_get_functiondef() of what is no extension's and no aggregate."""

    def __hash__(self) -> int:
        """By name alone: what is remembered of functions is looked up for every table that uses one."""
        return hash(self.signature)

    def setting(self, name: str) -> str | None:
        """The value pinned by SET, or None where it is not."""
        return next((v for k, _, v in (c.partition("=") for c in self.config) if k.lower() == name), None)


@dataclass(frozen=True, slots=True)
class Role:
    """pg_roles."""

    name: str
    superuser: bool = False
    bypass_rls: bool = False
    replication: bool = False
    create_role: bool = False
    create_db: bool = False
    login: bool = False
    inherit: bool = True


@dataclass(frozen=True, slots=True)
class Membership:
    """pg_auth_members: `member` is a member of `role`. Before 16, `inherit` is the member's own attribute."""

    role: str
    member: str
    admin: bool
    inherit: bool
    set: bool


@dataclass(frozen=True, slots=True)
class Schema:
    """pg_namespace."""

    name: str
    owner: str
    grants: Grants = ()
    extension: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """pg_db_role_setting. `role` "" is every role; `database` is whether it is bound to this database.

    `value` of a setting whose name speaks of a secret is its sha256.
    """

    role: str
    database: bool
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class DefaultPrivilege:
    """pg_default_acl. `kind` tables|sequences|functions|types|schemas|large objects; `schema` "" is all."""

    owner: str
    schema: str
    kind: str
    grants: Grants


@dataclass(frozen=True, slots=True)
class PublishedTable:
    table: str
    columns: tuple[str, ...] = ()
    filter: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """pg_publication, _rel and _namespace."""

    name: str
    owner: str
    all_tables: bool
    schemas: tuple[str, ...]
    tables: tuple[PublishedTable, ...]
    operations: tuple[str, ...]
    via_root: bool = False


@dataclass(frozen=True, slots=True)
class Subscription:
    """pg_subscription, the columns everyone may read."""

    name: str
    owner: str
    enabled: bool
    run_as_owner: bool = True


@dataclass(frozen=True, slots=True)
class ReplicationSlot:
    """pg_replication_slots of this database: logical ones."""

    name: str
    plugin: str


@dataclass(frozen=True, slots=True)
class Extension:
    name: str
    version: str
    schema: str


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """pg_event_trigger."""

    name: str
    event: str
    enabled: str
    function: str
    owner: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignServer:
    name: str
    wrapper: str
    owner: str
    grants: Grants = ()


@dataclass(frozen=True, slots=True)
class UserMapping:
    """pg_user_mappings. Options by name only: their values are credentials."""

    server: str
    user: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LargeObject:
    """pg_largeobject_metadata."""

    oid: int
    owner: str
    grants: Grants = ()


@dataclass(frozen=True, slots=True)
class NamedGrants:
    """Privileges on what has little else: languages, foreign-data wrappers, parameters."""

    kind: str
    name: str
    grants: Grants
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Operator:
    """pg_operator outside pg_catalog and extensions."""

    name: str
    left: str
    right: str
    function: str
    owner: str


@dataclass(frozen=True, slots=True)
class Cast:
    """pg_cast beside PostgreSQL's and extensions' own. `context`: implicit, assignment or explicit; `function` is ""
    where the text is read in again, or the bytes are taken as they are."""

    source: str
    target: str
    context: str
    function: str = ""


@dataclass(frozen=True, slots=True)
class Type:
    """pg_type: enums, domains, composites, ranges. `labels` of enums; `base`, `default` and `checks` of domains;
    `base` is a range's subtype; `attributes` of composites as "name type"."""

    name: str
    kind: str
    owner: str
    base: str = ""
    labels: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    not_null: bool = False
    extension: str = ""
    attributes: tuple[str, ...] = ()
    default: str = ""


@dataclass(frozen=True, slots=True)
class Database:
    """pg_database and the server's settings that isolation depends on."""

    owner: str
    grants: Grants = ()
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A database's catalog, read in one REPEATABLE READ transaction."""

    major: int
    database: Database
    roles: tuple[Role, ...] = ()
    memberships: tuple[Membership, ...] = ()
    schemas: tuple[Schema, ...] = ()
    tables: tuple[Table, ...] = ()
    functions: tuple[Function, ...] = ()
    types: tuple[Type, ...] = ()
    operators: tuple[Operator, ...] = ()
    casts: tuple[Cast, ...] = ()
    default_privileges: tuple[DefaultPrivilege, ...] = ()
    settings: tuple[Setting, ...] = ()
    publications: tuple[Publication, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    replication_slots: tuple[ReplicationSlot, ...] = ()
    extensions: tuple[Extension, ...] = ()
    event_triggers: tuple[EventTrigger, ...] = ()
    servers: tuple[ForeignServer, ...] = ()
    user_mappings: tuple[UserMapping, ...] = ()
    large_objects: tuple[LargeObject, ...] = ()
    named_grants: tuple[NamedGrants, ...] = ()
    unreadable: tuple[str, ...] = field(default=())
    """Parts that this role may not read; a control that needs one cannot pass."""
