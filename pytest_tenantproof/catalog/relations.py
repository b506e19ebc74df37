"""Relations and what hangs on them, as the snapshot holds them (see model.py for the whole)."""

from dataclasses import dataclass

__all__ = [
    "PUBLIC",
    "Column",
    "Constraint",
    "Grant",
    "Grants",
    "Index",
    "Policy",
    "Rule",
    "Table",
    "Trigger",
]

PUBLIC = "PUBLIC"


@dataclass(frozen=True, slots=True)
class Grant:
    """One privilege of an aclitem. `privilege` in full (SELECT, MAINTAIN, ...), `grantee` may be PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool = False
    grantor: str = ""


Grants = tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """pg_attribute. `type` as format_type() writes it; `generated` is "", "stored" or "virtual";
    `identity` is "", "always" or "by default"; `not_null_valid` is False for PG 18's NOT VALID not-nulls."""

    name: str
    type: str
    not_null: bool = False
    not_null_valid: bool = True
    default: str = ""
    generated: str = ""
    identity: str = ""
    grants: Grants = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """pg_constraint. `kind`: primary, unique, foreign, check, exclusion. `columns` in key order.

    Foreign keys: `target` table, `target_columns` pairwise to `columns`, `match` simple|full|partial,
    actions as "NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"; `triggers_enabled` is False
    when any of its internal triggers does not fire for ordinary sessions.
    """

    name: str
    kind: str
    definition: str
    columns: tuple[str, ...] = ()
    validated: bool = True
    enforced: bool = True
    deferrable: bool = False
    deferred: bool = False
    target: str = ""
    target_columns: tuple[str, ...] = ()
    match: str = "simple"
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"
    on_delete_columns: tuple[str, ...] = ()
    triggers_enabled: bool = True
    inherited: bool = False
    without_overlaps: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """pg_index. `columns` has "" where the key is an expression; `constraint` names what it implements,
    which is where its `definition` then is."""

    name: str
    definition: str
    columns: tuple[str, ...]
    unique: bool = False
    primary: bool = False
    exclusion: bool = False
    valid: bool = True
    predicate: str = ""
    constraint: str = ""


@dataclass(frozen=True, slots=True)
class Trigger:
    """pg_trigger, user-defined ones. `timing` BEFORE|AFTER|INSTEAD OF; `level` ROW|STATEMENT;
    `enabled` origin|always|replica|disabled; `function` is a Function.signature."""

    name: str
    timing: str
    level: str
    events: tuple[str, ...]
    function: str
    enabled: str = "origin"
    columns: tuple[str, ...] = ()
    when: str = ""
    arguments: str = ""
    old_table: str = ""
    new_table: str = ""
    deferrable: bool = False
    definition: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """pg_policy. `command` ALL|SELECT|INSERT|UPDATE|DELETE; `roles` may hold PUBLIC; "" is no expression."""

    name: str
    command: str
    permissive: bool
    roles: tuple[str, ...]
    using: str = ""
    check: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """pg_rewrite, the views' own _RETURN rules aside."""

    name: str
    event: str
    instead: bool
    enabled: str
    definition: str


@dataclass(frozen=True, slots=True)
class Table:
    """pg_class. `kind`: table, partitioned, view, matview, foreign, sequence.

    `reads` and `calls` are the relations and function signatures that a view's or rule's query depends on
    (pg_depend). `parents` are what it inherits from or is a partition of.
    """

    name: str
    schema: str
    kind: str
    owner: str
    row_security: bool = False
    row_security_forced: bool = False
    columns: tuple[Column, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    indexes: tuple[Index, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[Policy, ...] = ()
    rules: tuple[Rule, ...] = ()
    grants: Grants = ()
    parents: tuple[str, ...] = ()
    is_partition: bool = False
    partition_bound: str = ""
    partition_key: str = ""
    options: tuple[str, ...] = ()
    definition: str = ""
    reads: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    server: str = ""
    extension: str = ""
    persistence: str = "permanent"
    owned_by: str = ""
    directive: str = ""
    """A comment that a gateway obeys (it starts with "@"); other comments are not recorded."""
    cache: int = 1
    """Sequences: how many values a session takes at a time."""
    cycles: bool = False

    def column(self, name: str) -> Column | None:
        for column in self.columns:
            if column.name == name:
                return column
        return None

    @property
    def option(self) -> dict[str, str]:
        return dict(pair.partition("=")[::2] for pair in self.options)
