"""The snapshot seen through the settings: which table is whose. Nothing is tied to one product's schema."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property

from pytest_tenantproof.catalog.canonical import digest, part_digests
from pytest_tenantproof.catalog.guards import Aim
from pytest_tenantproof.catalog.model import Column, Constraint, Function, Grant, Role, Snapshot, Table
from pytest_tenantproof.catalog.references import reference_problems
from pytest_tenantproof.catalog.roles import RoleGraph
from pytest_tenantproof.catalog.users import user_column
from pytest_tenantproof.config import Reference, Settings
from pytest_tenantproof.errors import CatalogError
from pytest_tenantproof.model import Finding

__all__ = ["Catalog", "Kind", "Link"]

_STORED = frozenset({"table", "partitioned", "foreign", "matview"})
_TOOL_SCHEMAS = frozenset({"tenantproof", "supabase_migrations"})


class Kind(StrEnum):
    """What a relation is to tenancy."""

    REGISTRY = "registry"
    TENANT = "tenant"
    MEMBERSHIP = "membership"
    AUDIT = "audit"
    DERIVED = "derived"
    CHILD = "child"
    GLOBAL = "global"
    USER = "user"
    TOOL = "tool"
    UNCLASSIFIED = "unclassified"


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key between two tables that hold tenants' rows."""

    table: Table
    constraint: Constraint
    target: Table


class Catalog:
    """What controls read. Raises CatalogError when no tenant table is found: an empty proof is none."""

    def __init__(self, snapshot: Snapshot, settings: Settings) -> None:
        self.snapshot = snapshot
        self.settings = settings
        self.graph = RoleGraph(snapshot)
        self.tables = {table.name: table for table in snapshot.tables}
        self.functions = {function.signature: function for function in snapshot.functions}
        self.schemas = {schema.name: schema for schema in snapshot.schemas}
        self._usable: dict[tuple[str, str], bool] = {}
        self._judged: dict[str, bool] = {}
        self._called_by: dict[str, tuple[Function, ...]] = {}
        self._children: dict[str, list[Table]] = defaultdict(list)
        for table in snapshot.tables:
            for parent in table.parents:
                self._children[parent].append(table)
        self._kinds = {table.name: self._classify(table) for table in snapshot.tables}
        if not self.tenant_tables:
            columns = " or ".join(settings.tenant_column)
            raise CatalogError(
                f"no table in {', '.join(settings.schemas)} has a column {columns}: nothing to prove.",
                remedy="check tenant_column and schemas in tenantproof.toml, and the database name.",
            )

    def _classify(self, table: Table) -> Kind:
        s = self.settings
        root = self.root_of(table).name
        named = {table.name, root}
        lists = (
            (Kind.REGISTRY, (s.tenant_table,)),
            (Kind.AUDIT, s.audit_tables),
            (Kind.MEMBERSHIP, s.membership_tables),
            (Kind.DERIVED, tuple(d.table for d in s.derived_tables)),
            (Kind.CHILD, tuple(c.table for c in s.child_tables)),
            (Kind.GLOBAL, s.global_tables),
            (Kind.USER, s.user_tables),
        )
        for kind, names in lists:
            if named & set(names):
                return kind
        if table.schema in _TOOL_SCHEMAS:
            return Kind.TOOL
        if self.tenant_column(table) is not None:
            return Kind.TENANT
        return Kind.UNCLASSIFIED

    def kind(self, table: Table) -> Kind:
        return self._kinds[table.name]

    def root_of(self, table: Table) -> Table:
        """The topmost table that a partition belongs to; the table itself otherwise."""
        while table.is_partition and table.parents and table.parents[0] in self.tables:
            table = self.tables[table.parents[0]]
        return table

    def children_of(self, table: Table) -> tuple[Table, ...]:
        """Partitions and inheritance children, direct ones."""
        return tuple(self._children.get(table.name, ()))

    def tenant_column(self, table: Table) -> Column | None:
        """The configured tenant column that the table has; the registry's own key for the registry."""
        if table.name == self.settings.tenant_table:
            key = next((c for c in table.constraints if c.kind == "primary"), None)
            return table.column(key.columns[0]) if key and len(key.columns) == 1 else table.column("id")
        for name in self.settings.tenant_column:
            if column := table.column(name):
                return column
        return None

    def user_column(self, table: Table) -> Column | None:
        """The column that names the user whose row it is, where the table has one."""
        name = user_column(table, self.settings, is_user=self.kind(table) is Kind.USER)
        return table.column(name) if name else None

    def of_kind(self, *kinds: Kind) -> tuple[Table, ...]:
        """Relations that store rows (no views, no sequences) of these kinds."""
        return tuple(t for t in self.snapshot.tables if t.kind in _STORED and self._kinds[t.name] in kinds)

    @cached_property
    def tenant_tables(self) -> tuple[Table, ...]:
        """Tables, partitions included, with a tenant column: members of tenants too, audit logs aside."""
        stored = self.of_kind(Kind.TENANT, Kind.MEMBERSHIP)
        return tuple(t for t in stored if t.kind in ("table", "partitioned") and self._configured(t))

    def _configured(self, table: Table) -> bool:
        return table.schema in self.settings.schemas or self.kind(table) is Kind.MEMBERSHIP

    @cached_property
    def isolated_tables(self) -> tuple[Table, ...]:
        """Everything that row security has to bind: tenant tables, the registry, audit logs, derived ones."""
        kinds = (Kind.TENANT, Kind.MEMBERSHIP, Kind.REGISTRY, Kind.AUDIT, Kind.DERIVED, Kind.CHILD)
        return tuple(t for t in self.of_kind(*kinds) if t.kind in ("table", "partitioned"))

    @property
    def registry(self) -> Table | None:
        return self.tables.get(self.settings.tenant_table)

    @cached_property
    def audit_tables(self) -> tuple[Table, ...]:
        return self.of_kind(Kind.AUDIT)

    @cached_property
    def views(self) -> tuple[Table, ...]:
        return tuple(t for t in self.snapshot.tables if t.kind in ("view", "matview"))

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Foreign keys between tables of tenants, the registry aside; partitions' inherited copies too."""
        kinds = (Kind.TENANT, Kind.MEMBERSHIP, Kind.AUDIT)
        return tuple(self._links(kinds))

    def _links(self, kinds: tuple[Kind, ...]) -> Iterator[Link]:
        for table in self.of_kind(*kinds):
            for constraint in table.constraints:
                target = self.tables.get(constraint.target)
                if constraint.kind == "foreign" and target and self.kind(target) in kinds:
                    yield Link(table, constraint, target)

    @staticmethod
    def holds(constraint: Constraint) -> bool:
        """Whether a foreign key or check really holds for every row, old and new, at once."""
        return constraint.validated and constraint.enforced and constraint.triggers_enabled

    def parent_key(self, table: Table) -> Constraint | None:
        """The reference by which a declared child table belongs to a parent, where it holds for every row."""
        declared = {c.table: c.column for c in self.settings.child_tables}.get(self.root_of(table).name, "")
        column = table.column(declared)
        present = column is not None and column.not_null and column.not_null_valid
        found = (c for c in table.constraints if c.kind == "foreign" and declared in c.columns and self.holds(c))
        return next(found, None) if present else None

    def registry_keys(self, table: Table) -> Iterator[Constraint]:
        """Foreign keys of the table to the tenant registry."""
        for constraint in table.constraints:
            if constraint.kind == "foreign" and constraint.target == self.settings.tenant_table:
                yield constraint

    def is_anchored(self, table: Table, seen: frozenset[str] = frozenset()) -> bool:
        """Whether the tenant column leads to the registry by keys that hold, directly or through a parent."""
        column = self.tenant_column(table)
        if column is None or table.name in seen:
            return False
        if any(c.columns == (column.name,) and self.holds(c) for c in self.registry_keys(table)):
            return True
        return any(
            link.constraint.target_columns[link.constraint.columns.index(column.name)] == target.name
            and self.is_anchored(link.target, seen | {table.name})
            for link in self.links_of(table)
            if column.name in link.constraint.columns and self.holds(link.constraint)
            if all((c := table.column(name)) and c.not_null for name in link.constraint.columns)
            if (target := self.tenant_column(link.target))
        )

    def reference_problems(self, table: Table, column: str, reference: Reference) -> Iterator[Finding]:
        """What is wrong with the trigger behind a declared reference."""
        tenant, held = self.tenant_column(table), table.column(column)
        if tenant is None or held is None:
            yield Finding(table.name, "has no tenant column to compare a reference by")
            return
        aims = []
        for kind, name in reference.to.items():
            target = self.tables.get(name)
            owner = self.tenant_column(target) if target else None
            if target is None or owner is None:
                yield Finding(table.name, f"{column} is declared to name rows of {name}, which shows no tenant")
                continue
            aims.append(Aim(held, tenant, reference.discriminator, kind, tuple(reference.to), target, owner))
        yield from reference_problems(table, reference, aims, self.tables, self.functions)

    def links_of(self, table: Table) -> tuple[Link, ...]:
        return self._links_by_table.get(table.name, ())

    @cached_property
    def sha256(self) -> str:
        """sha256 of the snapshot's canonical JSON, as hex."""
        return digest(self.snapshot)

    @cached_property
    def parts_sha256(self) -> dict[str, str]:
        """sha256 of the roles, the policies and the grants, as `catalog.<part>`."""
        return {f"catalog.{name}": sha for name, sha in part_digests(self.snapshot).items()}

    @cached_property
    def _links_by_table(self) -> dict[str, tuple[Link, ...]]:
        found: dict[str, list[Link]] = defaultdict(list)
        for link in self.links:
            found[link.table.name].append(link)
        return {name: tuple(links) for name, links in found.items()}

    @cached_property
    def client_roles(self) -> tuple[str, ...]:
        """The configured client roles that exist here, and the groups that hold privileges for them."""
        return (*self._configured_clients, *sorted(self.client_groups))

    @cached_property
    def _configured_clients(self) -> tuple[str, ...]:
        return tuple(name for name in self.settings.client_roles if name in self.graph.roles)

    @cached_property
    def gateway_roles(self) -> tuple[Role, ...]:
        """Login roles that act as clients: what an API server connects as."""
        return self.graph.logins_reaching(self.client_roles)

    def is_admin(self, role: str) -> bool:
        """Whether the role is one of the declared administrators, or PostgreSQL's own."""
        if role not in self._judged:
            self._judged[role] = self._is_admin(role)
        return self._judged[role]

    def _is_admin(self, role: str) -> bool:
        if role.startswith("pg_") or (role == self.snapshot.database.owner and self._is_superuser(role)):
            return True
        return any(fnmatchcase(role, pattern) for pattern in self.settings.admin_roles)

    def _is_superuser(self, role: str) -> bool:
        return role in self.graph.roles and self.graph.roles[role].superuser

    @cached_property
    def known_roles(self) -> frozenset[str]:
        """Roles that may hold privileges on tenants' tables: the configured ones and administrators."""
        s = self.settings
        named = {*s.client_roles, *s.service_roles, *s.scoped_roles, *s.auditor_roles}
        return frozenset(named | self._admins | self.client_groups)

    @cached_property
    def _admins(self) -> frozenset[str]:
        return frozenset(role for role in self.graph.roles if self.is_admin(role))

    @cached_property
    def client_groups(self) -> frozenset[str]:
        """Groups that clients alone belong to: what they are granted is the clients', and is judged as theirs."""
        s, snapshot = self.settings, self.snapshot
        owners = {item.owner for items in (snapshot.tables, snapshot.functions, snapshot.schemas) for item in items}
        apart = {*s.service_roles, *s.scoped_roles, *s.auditor_roles, *owners, *self._admins}
        found = self.graph.groups_of(self._configured_clients, apart)
        return frozenset(name for name in found if not self.is_powerless(name))

    def is_powerless(self, role: str) -> bool:
        """Whether a role is a mere group: no login, no attribute, owns nothing, is granted nothing."""
        return role not in self._powerful

    @cached_property
    def _powerful(self) -> frozenset[str]:
        snapshot = self.snapshot
        named = {t.owner for t in snapshot.tables} | {f.owner for f in snapshot.functions}
        named |= {s.owner for s in snapshot.schemas} | {m.member for m in snapshot.memberships}
        named |= {g.grantee for t in snapshot.tables for g in t.grants}
        named |= {g.grantee for t in snapshot.tables for c in t.columns for g in c.grants}
        named |= {g.grantee for f in snapshot.functions for g in f.grants}
        named |= {g.grantee for s in snapshot.schemas for g in s.grants}
        named |= {g.grantee for d in snapshot.default_privileges for g in d.grants}
        for role in snapshot.roles:
            strong = (role.superuser, role.bypass_rls, role.replication, role.create_role, role.create_db)
            if any(strong) or role.login or role.name.startswith("pg_"):
                named.add(role.name)
        return frozenset(named)

    @cached_property
    def own_tables(self) -> tuple[Table, ...]:
        """Relations in scope: of the configured or exposed schemas, or classified; extensions' aside."""
        scope = {*self.settings.schemas, *self.settings.exposed}
        return tuple(
            table
            for table in self.snapshot.tables
            if not table.extension and (table.schema in scope or self._kinds[table.name] is not Kind.UNCLASSIFIED)
        )

    @cached_property
    def own_functions(self) -> tuple[Function, ...]:
        """Functions that are neither PostgreSQL's nor an extension's."""
        system = ("pg_catalog", "information_schema")
        return tuple(f for f in self.snapshot.functions if not f.extension and f.schema not in system)

    def reads(self, view: Table) -> tuple[str, ...]:
        """Every stored relation behind a view, through views on views."""
        seen: dict[str, None] = {}
        todo = list(view.reads)
        while todo:
            name = todo.pop()
            below = self.tables.get(name)
            if below is not None and below.kind == "view":
                todo += [read for read in below.reads if read not in seen]
            seen[name] = None
        return tuple(name for name in seen if name not in self.tables or self.tables[name].kind != "view")

    def calls(self, view: Table) -> tuple[Function, ...]:
        """Every function behind a view that is not PostgreSQL's own, through views on views."""
        views = [view, *(t for name in view.reads if (t := self.tables.get(name)) and t.kind == "view")]
        found = {signature for v in views for signature in v.calls}
        return tuple(f for name in sorted(found) if (f := self.functions.get(name)) is not None)

    def called_by(self, function: Function) -> tuple[Function, ...]:
        """The function, and those of this database that its body names, in turn."""
        if function.signature not in self._called_by:
            self._called_by[function.signature] = self._find_called(function)
        return self._called_by[function.signature]

    def _find_called(self, function: Function) -> tuple[Function, ...]:
        seen: dict[str, Function] = {}
        todo = [function]
        while todo:
            current = todo.pop()
            if current.signature not in seen:
                seen[current.signature] = current
                names = set(re.findall(r"[\w\"]+\.[\w\"]+(?=\s*\()", current.body))
                todo += [f for name in sorted(names) for f in self.functions_by_name.get(name, ())]
        return tuple(seen.values())

    @cached_property
    def functions_by_name(self) -> dict[str, tuple[Function, ...]]:
        found: dict[str, list[Function]] = defaultdict(list)
        for function in self.snapshot.functions:
            found[function.name].append(function)
        return {name: tuple(items) for name, items in found.items()}

    def kind_of(self, name: str) -> Kind:
        return self._kinds.get(name, Kind.TOOL if name.startswith("pg_catalog.") else Kind.UNCLASSIFIED)

    def holders(self, grants: tuple[Grant, ...], roles: tuple[str, ...]) -> Iterator[tuple[str, Grant]]:
        """Each (role, grant) where one of `roles` exercises a grant, also by membership or PUBLIC."""
        for role in roles:
            names = self.graph.acts_as(role)
            for grant in grants:
                if grant.grantee in names:
                    yield role, grant

    def usable(self, schema: str, role: str) -> bool:
        """Whether the role has USAGE on the schema."""
        if (schema, role) not in self._usable:
            self._usable[schema, role] = self._has_usage(schema, role)
        return self._usable[schema, role]

    def _has_usage(self, schema: str, role: str) -> bool:
        found = self.schemas.get(schema)
        return found is not None and (
            "USAGE" in self.graph.granted(found.grants, role) or found.owner in self.graph.acts_as(role)
        )

    def privileges(self, table: Table, role: str) -> frozenset[str]:
        """Table privileges that a role exercises (USAGE of the schema required), column grants included."""
        if not self.usable(table.schema, role):
            return frozenset()
        grants = (*table.grants, *(g for column in table.columns for g in column.grants))
        return self.graph.granted(grants, role)

    def callable_by(self, function: Function, role: str) -> bool:
        """Whether a role may EXECUTE a function whose schema it may use."""
        return self.usable(function.schema, role) and "EXECUTE" in self.graph.granted(function.grants, role)
