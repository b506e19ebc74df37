"""Fills a fault's placeholders from the target's own catalog, so that every schema can be broken alike."""

from collections.abc import Iterator

from pytest_tenantproof.catalog import Catalog, Kind, Link
from pytest_tenantproof.catalog.guards import keeps
from pytest_tenantproof.catalog.model import Column, Table
from pytest_tenantproof.catalog.names import LOOKUPS, quoted, singular
from pytest_tenantproof.catalog.references import enforcers
from pytest_tenantproof.controls._bound import writers
from pytest_tenantproof.prove.audit_placeholders import audit_placeholders

__all__ = ["fill", "placeholders"]

_TEXT = ("text", "character varying", "character")


def fill(sql: str, values: dict[str, str]) -> str | None:
    """The SQL with its placeholders filled; None where this catalog has nothing of the kind."""
    try:
        return sql.format_map(values)
    except KeyError:
        return None


def placeholders(catalog: Catalog, database: str) -> dict[str, str]:
    """What each placeholder stands for here. A name that is missing has no counterpart in this schema."""
    return dict(pair for part in (_roles, _tables, _links, _special) for pair in part(catalog) if pair[1]) | {
        "database": database
    }


def _roles(catalog: Catalog) -> Iterator[tuple[str, str]]:
    anonymous = [r for r in catalog.client_roles if r in catalog.settings.anonymous_roles]
    known = [r for r in catalog.client_roles if r not in catalog.settings.anonymous_roles]
    themselves = (*catalog.client_roles, *catalog.settings.scoped_roles)
    gateways = [r.name for r in catalog.gateway_roles if not catalog.is_admin(r.name) and r.name not in themselves]
    services = [r for r in catalog.settings.service_roles if r in catalog.graph.roles]
    scoped = [r for r in catalog.settings.scoped_roles if r in catalog.graph.roles]
    for name, found in (
        ("client_role", known),
        ("anon_role", anonymous),
        ("gateway_role", gateways),
        ("service_role", services),
        ("scoped_role", scoped),
        ("auditor_role", [r for r in catalog.settings.auditor_roles if r in catalog.graph.roles]),
    ):
        yield name, quoted(found[0]) if found else ""


def _sample(catalog: Catalog) -> Table:
    """A tenant table that clients use and that has guards; the first one otherwise."""
    plain = [t for t in catalog.tenant_tables if t.kind == "table" and not t.parents and catalog.kind(t) is Kind.TENANT]

    def rank(table: Table) -> tuple[int, str]:
        used = any(catalog.privileges(table, role) for role in catalog.client_roles)
        served = table.schema in catalog.settings.exposed
        return -sum((used, served, bool(table.triggers), bool(catalog.links_of(table)), bool(_text(table)))), table.name

    return min(plain or catalog.tenant_tables, key=rank)


def _text(table: Table) -> Column | None:
    keyed = {name for c in table.constraints if c.kind in ("foreign", "primary") for name in c.columns}
    # What is unique by itself may be a token that nobody can guess.
    keyed |= {index.columns[0] for index in table.indexes if index.unique and len(index.columns) == 1}
    return next((c for c in table.columns if c.type.startswith(_TEXT) and c.name not in keyed), None)


def _guards(catalog: Catalog, first: Table) -> Iterator[tuple[Table, list[str]]]:
    """The triggers that keep the tenant of each table where somebody may change it: of `first` before others."""
    for table in (first, *(t for t in catalog.tenant_tables if t is not first and not t.is_partition)):
        column = catalog.tenant_column(table)
        if column is None or not writers(catalog, table, column.name):
            continue
        keeping = (t for t in table.triggers if keeps(t, catalog.functions.get(t.function), table, column))
        if names := [quoted(trigger.name) for trigger in keeping]:
            yield table, names


def _tables(catalog: Catalog) -> Iterator[tuple[str, str]]:
    table = _sample(catalog)
    column = catalog.tenant_column(table)
    text = _text(table)
    yield "tenant_table", table.name
    yield "schema", table.schema
    yield "owner", quoted(table.owner)
    yield "registry", catalog.settings.tenant_table
    yield "tenant_column", quoted(column.name) if column else ""
    yield "tenant_type", column.type if column else ""
    yield "other_type", "bigint" if column and column.type.startswith(_TEXT) else "text"
    yield "text_column", quoted(text.name) if text else ""
    yield "trusted", next(iter(catalog.settings.trusted_tenant_expressions), "")
    referenced = {link.target.name for link in catalog.links}
    leaves = [t.name for t in catalog.tenant_tables if t.kind == "table" and t.name not in referenced and not t.parents]
    yield "leaf_table", leaves[0] if leaves else ""
    for kind, name in (
        (Kind.MEMBERSHIP, "membership_table"),
        (Kind.AUDIT, "audit_table"),
        (Kind.GLOBAL, "global_table"),
    ):
        yield name, next((t.name for t in catalog.of_kind(kind)), "")
    if found := next(_guards(catalog, table), None):
        guarded, guards = found
        yield "drop_freeze_trigger", "; ".join(f"DROP TRIGGER {guard} ON {guarded.name}" for guard in guards)
        yield "disable_freeze_trigger", "; ".join(f"ALTER TABLE {guarded.name} DISABLE TRIGGER {g}" for g in guards)
    for policy in table.policies:
        if policy.permissive:
            yield "policy", quoted(policy.name)


def _links(catalog: Catalog) -> Iterator[tuple[str, str]]:
    link = _link(catalog)
    if link is None:
        return
    key = link.constraint
    own = catalog.tenant_column(link.table)
    pairs = [(a, b) for a, b in zip(key.columns, key.target_columns, strict=True) if own is None or a != own.name]
    yield "child", link.table.name
    yield "link", quoted(key.name)
    yield "link_columns", ", ".join(map(quoted, key.columns))
    yield "link_target", link.target.name
    yield "link_target_columns", ", ".join(map(quoted, key.target_columns))
    yield "link_column", quoted(pairs[-1][0]) if pairs else ""
    yield "link_target_key", quoted(pairs[-1][1]) if pairs else ""
    yield "target_singular", singular(link.target.name.rpartition(".")[2].strip('"'))


def _link(catalog: Catalog) -> Link | None:
    """A composite key between two plain tables whose target's id is unique by itself."""

    def usable(link: Link) -> bool:
        last = link.constraint.target_columns[-1]
        unique = any(i.unique and i.columns == (last,) for i in link.target.indexes)
        plain = link.table.kind == link.target.kind == "table" and not link.table.parents
        return plain and unique and len(link.constraint.columns) > 1 and link.table != link.target

    found = [link for link in catalog.links if usable(link)]
    return min(found, key=lambda link: (-len(link.constraint.columns), link.table.name), default=None)


def _special(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Whole statements for faults that depend on what a schema has."""
    registry = catalog.registry
    for index in registry.indexes if registry else ():
        if index.unique and index.constraint and registry and set(index.columns) <= LOOKUPS:
            yield "drop_registry_lookup", f"ALTER TABLE {registry.name} DROP CONSTRAINT {quoted(index.constraint)}"
    for table in catalog.of_kind(Kind.MEMBERSHIP):
        for key in table.constraints:
            if key.kind == "foreign" and key.target in catalog.settings.user_tables:
                yield "drop_membership_key", f"ALTER TABLE {table.name} DROP CONSTRAINT {quoted(key.name)}"
    for reference in catalog.settings.references:
        held = catalog.tables.get(reference.column.rpartition(".")[0])
        for trigger in enforcers(held, reference, catalog.functions) if held else ():
            yield "drop_reference_trigger", f"DROP TRIGGER {quoted(trigger.name)} ON {held.name if held else ''}"
    yield from _statements(catalog)


def _statements(catalog: Catalog) -> Iterator[tuple[str, str]]:
    table, client = _sample(catalog), next(iter(dict(_roles(catalog)).values()), "")
    column = catalog.tenant_column(table)
    shared = next((t.name for t in catalog.of_kind(Kind.GLOBAL) if t.kind == "table"), "")
    if shared and client:
        yield (
            "open_global_table",
            f"ALTER TABLE {shared} DISABLE ROW LEVEL SECURITY; GRANT UPDATE ON {shared} TO {client}",
        )
    if column:
        yield (
            "add_rewriting_trigger",
            f"CREATE FUNCTION {table.schema}.rewrite() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS"
            f" $$ BEGIN new.{quoted(column.name)} := gen_random_uuid(); RETURN new; END $$;"
            f"REVOKE EXECUTE ON FUNCTION {table.schema}.rewrite() FROM PUBLIC;"
            f"CREATE TRIGGER zz_rewrite BEFORE INSERT ON {table.name}"
            f" FOR EACH ROW EXECUTE FUNCTION {table.schema}.rewrite()",
        )
    alter = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {}', current_database()); END $$"
    yield "lo_compat", alter.format("lo_compat_privileges = on")
    yield "replica_role", alter.format("session_replication_role = replica")
    anonymous = [r for r in catalog.client_roles if r in catalog.settings.anonymous_roles]
    if anonymous and catalog.usable(table.schema, anonymous[0]):
        directive = '@graphql({"totalCount": {"enabled": true}})'
        yield (
            "graphql_total_count",
            f"COMMENT ON TABLE {table.name} IS '{directive}'; GRANT SELECT ON {table.name} TO {quoted(anonymous[0])}",
        )
    yield from _ancestors(catalog)
    yield from audit_placeholders(catalog, table)
    yield from _accessor(catalog, client)
    yield from _scoped_accessor(catalog)


def _accessor(catalog: Catalog, client: str) -> Iterator[tuple[str, str]]:
    """The function that gives the caller's tenant, replaced by worse ones."""
    trusted = (catalog.functions.get(text) for text in catalog.settings.trusted_tenant_expressions)
    function = next((f for f in trusted if f and f.signature.endswith("()")), None)
    if function is None:
        return
    head = f"CREATE OR REPLACE FUNCTION {function.signature} RETURNS {function.returns} LANGUAGE sql STABLE"
    claims = "nullif(current_setting('request.jwt.claims', true), '')::jsonb"
    metadata = f"({claims} -> 'user_metadata' ->> 'tenant_id')::{function.returns}"
    yield "accessor_reads_user_metadata", f"{head} SET search_path = '' AS $$ SELECT {metadata} $$"
    setting = f"nullif(current_setting('app.debug_tenant', true), '')::{function.returns}"
    fallback = f"coalesce(({claims} ->> 'tenant_id')::{function.returns}, {setting})"
    yield "accessor_has_a_fallback", f"{head} SET search_path = '' AS $$ SELECT {fallback} $$"
    yield "shadowable_accessor", f"{head} AS $$ SELECT {setting} FROM pg_class LIMIT 1 $$"
    named = any(function.name + "(" in p.using for t in catalog.isolated_tables for p in t.policies)
    if named and client:
        yield "revoke_policy_function", f"REVOKE EXECUTE ON FUNCTION {function.signature} FROM {client}, PUBLIC"


def _scoped_accessor(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """The function that the back end's policies read the tenant by, made silent."""
    for table in catalog.isolated_tables:
        for policy in table.policies:
            for text in catalog.settings.trusted_tenant_expressions:
                function = catalog.functions.get(text)
                if function and text in policy.using and set(policy.roles) & set(catalog.settings.scoped_roles):
                    head = f"CREATE OR REPLACE FUNCTION {function.signature} RETURNS {function.returns} LANGUAGE sql"
                    claims = "nullif(current_setting('request.jwt.claims', true), '')::jsonb"
                    value = f"({claims} -> 'app_metadata' ->> 'tenant_id')::{function.returns}"
                    yield "silent_accessor", f"{head} STABLE SET search_path = '' AS $$ SELECT {value} $$"


def _ancestors(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """A link that carries a shared ancestor, replaced by one that does not."""
    for link in catalog.links:
        own = catalog.tenant_column(link.table)
        if own is None or len(link.constraint.columns) < 3 or link.table.parents:
            continue
        pairs = dict(zip(link.constraint.columns, link.constraint.target_columns, strict=True))
        last = link.constraint.columns[-1]
        name, kept = quoted(link.constraint.name), (own.name, last)
        target = ", ".join(quoted(pairs[k]) for k in kept)
        yield (
            "drop_shared_ancestor",
            f"CREATE UNIQUE INDEX tp_shared ON {link.target.name} ({target});"
            f"ALTER TABLE {link.table.name} DROP CONSTRAINT {name}; ALTER TABLE {link.table.name} ADD CONSTRAINT"
            f" {name} FOREIGN KEY ({', '.join(map(quoted, kept))}) REFERENCES {link.target.name} ({target})",
        )
