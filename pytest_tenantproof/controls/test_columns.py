"""1xx: every row says whose it is."""

import re
from collections.abc import Iterator

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.expressions import is_constant, same_expression
from pytest_tenantproof.catalog.model import Index, Table
from pytest_tenantproof.catalog.names import LOOKUPS, foreign_key_hints, singular, snake
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._bound import prover
from pytest_tenantproof.controls._maps import ACCESS, INTEGRITY
from pytest_tenantproof.model import Severity

_ALIVE = re.compile(r"\(?\"?\w*(deleted|archived|removed|revoked)\w*\"? IS NULL\)?", re.I)


def _keys_of_the_living(table: Table) -> Iterator[Index]:
    """Unique indexes over all rows, or over those that were not deleted softly, that hold at every moment."""
    late = {c.name for c in table.constraints if c.deferrable}
    for index in table.indexes:
        living = not index.predicate or _ALIVE.fullmatch(index.predicate)
        if index.unique and index.valid and living and index.name not in late:
            yield index


@control(
    "TP101",
    title="Every table in scope or within a client's reach is classified",
    severity=Severity.HIGH,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("CREATE TABLE {schema}.stray (id int, note text)", also=("TP901",))
@falsified_by(
    "CREATE SCHEMA stray; GRANT USAGE ON SCHEMA stray TO {client_role};"
    "CREATE TABLE stray.copies (id int, note text); GRANT SELECT ON stray.copies TO {client_role}",
    also=("TP218",),
)
def test_every_table_is_classified(catalog: Catalog, findings: Findings) -> None:
    """A table that nobody classified is a table that nobody protects: a copy, a queue, a forgotten import.

    Each table in the configured schemas, and each one that a client or service role can reach, has to have
    a tenant column or be named in the config as global, audit, membership, derived, child or user table. Give it a
    tenant column, or add it to `global_tables` if no tenant's data is ever in it.
    """
    roles = (*catalog.client_roles, *catalog.settings.service_roles)
    for table in catalog.of_kind(Kind.UNCLASSIFIED):
        by = next((role for role in roles if catalog.privileges(table, role)), None)
        if table.schema in catalog.settings.schemas or by:
            reach = f"; {by} can reach it" if by else ""
            findings.add(table, f"neither a tenant column nor a classification{reach}", role=by)
    owners = (Kind.TENANT, Kind.CHILD, Kind.MEMBERSHIP, Kind.REGISTRY)
    for table in catalog.of_kind(Kind.CHILD):
        key = catalog.parent_key(table)
        if key is None or catalog.kind_of(key.target) not in owners:
            findings.add(table, "is declared a child, but no NOT NULL reference that holds takes it to a tenant's row")


@control(
    "TP102",
    title="The tenant column is NOT NULL, and that is validated",
    severity=Severity.CRITICAL,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by("ALTER TABLE {child} ALTER {tenant_column} DROP NOT NULL", also=("TP105", "TP109"))
def test_tenant_column_is_not_null(catalog: Catalog, findings: Findings) -> None:
    """A row without a tenant belongs to nobody: no policy shows it, no foreign key checks it, no export has it.

    PostgreSQL 18 can also hold a not-null that was never validated (NOT VALID), which old rows may violate.
    """
    for table in catalog.tenant_tables:
        column = catalog.tenant_column(table)
        if column and not (column.not_null and column.not_null_valid):
            what = "was never validated" if column.not_null else "is missing"
            fix = f"ALTER TABLE {table.name} ALTER COLUMN {column.name} SET NOT NULL;"
            findings.add(table, f"NOT NULL on {column.name} {what}", fix=fix)


@control(
    "TP103",
    title="The tenant column has the type of the registry's key",
    severity=Severity.HIGH,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by(
    "CREATE TABLE {schema}.mistyped (id uuid PRIMARY KEY, {tenant_column} {other_type} NOT NULL)",
    also=("TP104", "TP111", "TP201", "TP203", "TP501", "TP505", "TP812"),
)
def test_tenant_column_has_the_registry_type(catalog: Catalog, findings: Findings) -> None:
    """Another type means casts in every policy and join, where text comparison and coercion leave gaps."""
    registry = catalog.registry
    key = catalog.tenant_column(registry) if registry else None
    if registry is None or key is None:
        findings.add(catalog.settings.tenant_table, "the tenant registry does not exist or has no single key")
        return
    for table in catalog.tenant_tables:
        column = catalog.tenant_column(table)
        if column and column.type != key.type:
            findings.add(table, f"{column.name} is {column.type}, {registry.name}.{key.name} is {key.type}")


@control(
    "TP104",
    title="The tenant column references the registry, enforced at once and without cascade",
    severity=Severity.HIGH,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by(
    "CREATE TABLE {schema}.unbound (id uuid PRIMARY KEY, {tenant_column} {tenant_type} NOT NULL)",
    also=("TP201", "TP203", "TP501", "TP505", "TP812"),
)
def test_tenant_column_references_the_registry(catalog: Catalog, findings: Findings) -> None:
    """Without the key a row can name a tenant that never existed, or comes into being later and inherits it.

    The reference may be direct, or through a parent whose own key carries the tenant. With CASCADE one
    deleted registry row takes a customer's whole history along.
    """
    for table in catalog.tenant_tables:
        column = catalog.tenant_column(table)
        if column is None or table.name == catalog.settings.tenant_table:
            continue
        if not catalog.is_anchored(table):
            key = catalog.settings.tenant_table
            fix = f"ALTER TABLE {table.name} ADD FOREIGN KEY ({column.name}) REFERENCES {key} ON DELETE RESTRICT;"
            findings.add(table, f"no enforced, validated foreign key takes {column.name} to {key}", fix=fix)
        for constraint in catalog.registry_keys(table):
            if constraint.on_delete not in ("NO ACTION", "RESTRICT"):
                detail = f"{constraint.name}: ON DELETE {constraint.on_delete} wipes or re-parents a tenant's rows"
                findings.add(table, detail)


@control(
    "TP112",
    title="The tenant column has no default other than the caller's tenant",
    severity=Severity.HIGH,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by(
    "ALTER TABLE {tenant_table} ALTER {tenant_column} SET DEFAULT '00000000-0000-0000-0000-000000000001'",
    also=("TP901",),
)
def test_tenant_column_has_no_fixed_default(catalog: Catalog, findings: Findings) -> None:
    """With a constant default, or a fallback to one, each insert that forgets the tenant lands at one customer.

    A view can have a default of its own for what is inserted through it.
    """
    s = catalog.settings
    allowed = (*s.trusted_tenant_expressions, *s.trusted_user_expressions)
    views = (view for view in catalog.views if view in catalog.own_tables)
    for table in (*catalog.tenant_tables, *catalog.audit_tables, *views):
        column = catalog.tenant_column(table)
        if not column or not column.default or any(same_expression(column.default, text) for text in allowed):
            continue
        roles = catalog.client_roles or ("PUBLIC",)
        if not all(prover(catalog).is_callers_tenant(table, column.name, column.default, role) for role in roles):
            kind = "VIEW" if table.kind == "view" else "TABLE"
            fix = f"ALTER {kind} {table.name} ALTER COLUMN {column.name} DROP DEFAULT;"
            findings.add(table, f"{column.name} has a default that is not the caller's tenant", fix=fix)


@control(
    "TP117",
    title="Columns that name another tenant table's id are real references",
    severity=Severity.MEDIUM,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by("ALTER TABLE {child} ADD COLUMN other_{target_singular}_id uuid", also=("TP901",))
@falsified_by("ALTER TABLE {child} ADD COLUMN {target_singular}_ids uuid[]", also=("TP901",))
def test_id_columns_are_references(catalog: Catalog, findings: Findings) -> None:
    """An id without a foreign key can name another tenant's row, and nothing notices: joins then leak it.

    Arrays of ids cannot be checked by Postgres at all: use a link table with composite keys. References
    that depend on a type column are declared in `references`, and the trigger that enforces them is checked.
    """
    declared = {reference.column for reference in catalog.settings.references}
    whole = (t for t in catalog.tenant_tables if not t.is_partition)
    names = {snake(singular(t.name.rpartition(".")[2].strip('"'))): t for t in whole}
    for table in catalog.tenant_tables:
        keyed = {name for c in table.constraints if c.kind == "foreign" for name in c.columns}
        own = {name for i in table.indexes if i.unique and not i.predicate for name in i.columns}
        for column in table.columns:
            target = foreign_key_hints(column, names)
            if target == table and column.name in own:
                continue
            if target and column.name not in keyed and f"{table.name}.{column.name}" not in declared:
                what = "a list of ids" if column.type.endswith("[]") or "json" in column.type else "an id"
                findings.add(table, f"{column.name} looks like {what} of {target.name} but has no foreign key")


@control(
    "TP118",
    title="What a request is resolved to a tenant by is unique in the registry",
    severity=Severity.HIGH,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by("{drop_registry_lookup}")
def test_registry_lookups_are_unique(catalog: Catalog, findings: Findings) -> None:
    """Two tenants with one slug or domain: a request resolves to whichever row comes first.

    A deferrable key does not count: until commit there may be two.
    """
    registry = catalog.registry
    if registry is None:
        findings.add(catalog.settings.tenant_table, "the tenant registry does not exist")
        return
    unique = {i.columns for i in _keys_of_the_living(registry)}
    for column in registry.columns:
        by_expression = any(
            i.unique and "" in i.columns and f"({column.name})" in i.definition for i in registry.indexes
        )
        if column.name in LOOKUPS and (column.name,) not in unique and not by_expression:
            fix = f"ALTER TABLE {registry.name} ADD UNIQUE ({column.name});"
            findings.add(registry, f"{column.name} is not unique", fix=fix)


@control(
    "TP119",
    title="Memberships name a real tenant and a real user, once",
    severity=Severity.CRITICAL,
    requirement="D2",
    maps=ACCESS,
)
@falsified_by("{drop_membership_key}", also=("TP104",))
def test_memberships_are_anchored(catalog: Catalog, findings: Findings) -> None:
    """Memberships decide who sees what. One that names a deleted user or a future tenant is a spare key."""
    for table in catalog.of_kind(Kind.MEMBERSHIP):
        user = prover(catalog).world.user_column(table) or catalog.settings.user_column
        column = catalog.tenant_column(table)
        keys = [c for c in table.constraints if c.kind == "foreign" and catalog.holds(c)]
        if not any(user in c.columns and c.target in catalog.settings.user_tables for c in keys):
            findings.add(table, f"{user} has no enforced foreign key to the user table")
        unique = (set(i.columns) for i in _keys_of_the_living(table))
        if column and not any(columns and columns <= {user, column.name} for columns in unique):
            findings.add(table, f"no unique key on ({column.name}, {user})")
        user_column = table.column(user)
        if user_column and not user_column.not_null:
            findings.add(table, f"{user} may be NULL")
        if user_column and is_constant(user_column.default):
            findings.add(table, f"{user} has a default, so whoever names nobody makes one and the same user a member")
