"""The snapshot indexed by name, and what the settings say about trust."""

import re
from collections import defaultdict
from fnmatch import fnmatchcase
from functools import lru_cache

from pytest_tenantproof.catalog.model import Constraint, Function, Snapshot, Table
from pytest_tenantproof.catalog.roles import RoleGraph
from pytest_tenantproof.catalog.users import user_column
from pytest_tenantproof.config import Settings
from pytest_tenantproof.policy.parse import names

__all__ = ["CLAIMS", "THIS", "USER_EDITABLE", "World"]

THIS = "this_row"
CLAIMS = "request.jwt.claims"
USER_EDITABLE = frozenset({"user_metadata", "raw_user_meta_data"})
_WHOLE = frozenset({CLAIMS, "request.jwt.claim"})
_ONE_CLAIM = "request.jwt.claim."


@lru_cache(maxsize=20_000)
def words(text: str) -> frozenset[str]:
    """Every name that a text may mention."""
    return frozenset(re.findall(r"\w+", text)) | frozenset(re.findall(r'"([^"]+)"', text))


@lru_cache(maxsize=20_000)
def _all_words(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*map(words, texts))


@lru_cache(maxsize=20_000)
def _renamed(name: str, text: str) -> str:
    return re.sub(rf'(?<![\w."]){re.escape(name)}\.', f"{THIS}.", text)


class World:
    """Lookups only; nothing here decides what is safe."""

    def __init__(self, snapshot: Snapshot, settings: Settings) -> None:
        self.snapshot = snapshot
        self.settings = settings
        self.graph = RoleGraph(snapshot)
        self.tables = {names(t.name): t for t in snapshot.tables}
        self.by_name = {t.name: t for t in snapshot.tables}
        self.functions = {f.signature: f for f in snapshot.functions}
        self.derived = {d.table: d for d in settings.derived_tables}
        self._child_columns = {c.table: c.column for c in settings.child_tables}
        self._named: dict[tuple[str, ...], list[Function]] = defaultdict(list)
        for function in snapshot.functions:
            self._named[names(function.name)].append(function)
        self._domains = {t.name: t.base for t in snapshot.types if t.kind == "domain"}
        self._schemas = {s.name for s in snapshot.schemas} | {"pg_catalog"}
        self._enums = {t.name for t in snapshot.types if t.kind == "enum"}
        self._users: dict[str, bool] = {}
        self._shapes: dict[tuple[str, tuple[str, ...]], object] = {}
        self.default_path = tuple(dict.fromkeys(("public", *settings.schemas)))

    def root(self, table: Table) -> Table:
        """The topmost table that a partition belongs to."""
        while table.is_partition and table.parents and table.parents[0] in self.by_name:
            table = self.by_name[table.parents[0]]
        return table

    def named(self, table: Table, listed: tuple[str, ...]) -> bool:
        """Whether a table, or the table it is a partition of, is in a list of the settings."""
        return table.name in listed or self.root(table).name in listed

    def table(self, name: tuple[str, ...], path: tuple[str, ...]) -> Table | None:
        if len(name) == 2:
            return self.tables.get(name)
        return next((t for schema in path if (t := self.tables.get((schema, *name)))), None)

    def candidates(self, name: tuple[str, ...], count: int, path: tuple[str, ...]) -> tuple[Function, ...]:
        """User functions that a call with `count` arguments may mean, variadic and defaulted ones too."""
        schemas = (name[0],) if len(name) == 2 else path
        found = (f for schema in schemas for f in self._named.get((schema, name[-1]), ()))
        return tuple(f for f in found if len(f.arguments) >= count and f.kind == "function")

    def known(self, name: tuple[str, ...]) -> bool:
        """Whether any user function has this qualified name."""
        return name in self._named

    def aggregate(self, name: tuple[str, ...]) -> bool:
        return any(f.kind != "function" for f in self._named.get(name, ()))

    def base_type(self, type_: str) -> str:
        """A domain's base type, to the bottom; other types as they are."""
        seen = set()
        while type_ in self._domains and type_ not in seen:
            seen.add(type_)
            type_ = self._domains[type_]
        return type_

    def is_enum(self, type_: str) -> bool:
        return type_ in self._enums

    def tenant_column(self, table: Table) -> str | None:
        """The column that holds a row's tenant: the registry's own key for the registry."""
        if table.name == self.settings.tenant_table:
            key = next((c for c in table.constraints if c.kind == "primary"), None)
            return key.columns[0] if key and len(key.columns) == 1 else "id"
        return next((name for name in self.settings.tenant_column if table.column(name)), None)

    def tenant_columns(self, table: Table) -> tuple[str, ...]:
        """Every configured column that holds the row's tenant."""
        if table.name == self.settings.tenant_table:
            own = self.tenant_column(table)
            return (own,) if own else ()
        return tuple(name for name in self.settings.tenant_column if table.column(name))

    def parent_key(self, table: Table) -> Constraint | None:
        """The reference by which a declared child table's rows belong to a parent; it must hold for every row."""
        declared = self._child_columns.get(self.root(table).name)
        column = table.column(declared) if declared else None
        if column is None or not (column.not_null and column.not_null_valid):
            return None
        found = (c for c in table.constraints if c.kind == "foreign" and column.name in c.columns)
        return next((c for c in found if c.validated and c.enforced and c.triggers_enabled), None)

    def is_own_kind(self, table: Table) -> bool:
        """Whether a row may belong to its user rather than to a tenant: memberships and identities."""
        return self.is_membership(table) or self.is_user(table)

    def is_user(self, table: Table) -> bool:
        """Whether a row is a user."""
        if table.name not in self._users:
            self._users[table.name] = self.named(table, self.settings.user_tables)
        return self._users[table.name]

    def shape(self, table: Table, texts: tuple[str, ...]) -> object:
        """What else than its texts a proof about the table's own row depends on."""
        key = (table.name, texts)
        if key not in self._shapes:
            self._shapes[key] = self._shape(table, texts)
        return self._shapes[key]

    def _shape(self, table: Table, texts: tuple[str, ...]) -> object:
        used = _all_words(texts)
        columns = tuple((c.name, c.type, c.not_null and c.not_null_valid) for c in table.columns if c.name in used)
        return (self.tenant_columns(table), columns, self.user_column(table))

    def canonical(self, table: Table, text: str) -> str:
        """A policy's text with the table's own name as THIS, so that equal policies of many tables are one text."""
        bare = table.name.rpartition(".")[2]
        if bare + "." not in text or bare in self._schemas:
            return text
        return _renamed(bare, text)

    def user_column(self, table: Table) -> str | None:
        """The column that names the user whose row it is; see catalog.users."""
        return user_column(table, self.settings, is_user=self.is_user(table))

    def is_membership(self, table: Table) -> bool:
        return self.named(table, self.settings.membership_tables)

    def is_global(self, table: Table) -> bool:
        return self.named(table, self.settings.global_tables)

    def trusted_setting(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern.lower()) for pattern in self.settings.trusted_settings)

    @staticmethod
    def claim_of(setting: str) -> tuple[str, tuple[str, ...]]:
        """(root, path): the gateway's settings in old and new spelling are one document of claims."""
        if setting in _WHOLE:
            return CLAIMS, ()
        if setting.startswith(_ONE_CLAIM):
            return CLAIMS, (setting.removeprefix(_ONE_CLAIM),)
        return setting, ()

    def shown_by(self, table: Table, role: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The texts of the permissive and of the restrictive SELECT policies that bind a role, if any do."""
        if not role or self.bypasses(table, role):
            return (), ()
        named = self.graph.acts_as(role)
        mine = [p for p in table.policies if p.command in ("ALL", "SELECT") and not named.isdisjoint(p.roles)]
        texts = [(p.permissive, self.canonical(table, p.using)) for p in mine if p.using]
        return tuple(t for permissive, t in texts if permissive), tuple(t for permissive, t in texts if not permissive)

    def bypasses(self, table: Table, role: str) -> str:
        """Why row security does not bind the role on this table; "" where it does."""
        if not table.row_security:
            return "row security is off"
        found = self.graph.roles.get(role)
        if found and (found.superuser or found.bypass_rls):
            return f"{role} bypasses row security"
        if table.owner in self.graph.acts_as(role) and not table.row_security_forced:
            return f"{role} has the rights of the owner, whom row security does not bind unless forced"
        return ""
