"""2xx: privileges that row security does not cover, and ones that future objects would get."""

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.model import PUBLIC
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import GRANTS, SCHEMA
from pytest_tenantproof.model import Severity

_BEYOND_POLICIES = frozenset({"TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"})
_BUILT_IN = {("functions", "EXECUTE"), ("types", "USAGE")}


@control(
    "TP215",
    title="Clients hold no privilege that row security does not bind",
    severity=Severity.HIGH,
    requirement="A1",
    maps=GRANTS,
)
@falsified_by("GRANT TRUNCATE ON {tenant_table} TO {client_role}")
@falsified_by("GRANT REFERENCES, TRIGGER ON {tenant_table} TO {client_role}")
@falsified_by("GRANT REFERENCES ({tenant_column}) ON {tenant_table} TO {client_role}")
@falsified_by("GRANT MAINTAIN ON {tenant_table} TO {client_role}", min_version=17)
@falsified_by("GRANT SELECT ON {tenant_table} TO {client_role} WITH GRANT OPTION")
def test_no_privileges_beyond_policies(catalog: Catalog, findings: Findings) -> None:
    """TRUNCATE empties every tenant's rows; REFERENCES probes them; TRIGGER sees others' writes; MAINTAIN locks.

    None asks a policy. The right to grant a privilege on is none of a client's business either.
    """
    for table in catalog.own_tables:
        for role, grant in catalog.holders(table.grants, catalog.client_roles):
            if table.kind != "sequence" and grant.privilege in _BEYOND_POLICIES:
                fix = f"REVOKE {grant.privilege} ON {table.name} FROM {grant.grantee};"
                findings.add(table, f"{role} holds {grant.privilege}", fix=fix, role=role)
            if grant.grantable and grant.grantee != table.owner:
                fix = f"REVOKE GRANT OPTION FOR {grant.privilege} ON {table.name} FROM {grant.grantee};"
                findings.add(table, f"{role} may grant {grant.privilege} on", fix=fix, role=role)
        for column in table.columns:
            for role, grant in catalog.holders(column.grants, catalog.client_roles):
                if grant.privilege in _BEYOND_POLICIES:
                    fix = f"REVOKE {grant.privilege} ({column.name}) ON {table.name} FROM {grant.grantee};"
                    findings.add(table, f"{role} holds {grant.privilege} on {column.name}", fix=fix, role=role)


@control(
    "TP216",
    title="Clients can create nothing, in no schema and not in the database",
    severity=Severity.HIGH,
    requirement="A1",
    maps=SCHEMA,
)
@falsified_by("GRANT CREATE ON SCHEMA {schema} TO {client_role}")
@falsified_by("GRANT CREATE ON SCHEMA {schema} TO PUBLIC")
@falsified_by("GRANT TEMPORARY ON DATABASE {database} TO PUBLIC")
def test_clients_create_nothing(catalog: Catalog, findings: Findings) -> None:
    """Whoever can create a function or operator in a schema on someone's search path can run code as them.

    Temporary objects shadow every unqualified name of the session, also inside functions without a pinned path.
    """
    s = catalog.settings
    logins = (r.name for r in catalog.snapshot.roles if r.login and not catalog.is_admin(r.name))
    roles = (*catalog.client_roles, *s.service_roles, *s.scoped_roles, *logins)
    for schema in catalog.snapshot.schemas:
        for role, grant in catalog.holders(schema.grants, roles):
            if grant.privilege == "CREATE" and grant.grantee != schema.owner:
                fix = f"REVOKE CREATE ON SCHEMA {schema.name} FROM {grant.grantee};"
                findings.add(f"schema {schema.name}", f"{role} may create objects in it", fix=fix, role=role)
    for role, grant in catalog.holders(catalog.snapshot.database.grants, roles):
        if grant.privilege in ("CREATE", "TEMPORARY"):
            detail = f"{role} may create {'schemas' if grant.privilege == 'CREATE' else 'temporary objects'}"
            findings.add("database", detail, role=role, fix=f"REVOKE {grant.privilege} ... FROM {grant.grantee};")


@control(
    "TP217",
    title="Future objects are granted to no client by default",
    severity=Severity.HIGH,
    requirement="A1",
    maps=GRANTS,
)
@falsified_by("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON TABLES TO PUBLIC")
@falsified_by("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT EXECUTE ON FUNCTIONS TO {anon_role}")
def test_no_default_privileges_for_clients(catalog: Catalog, findings: Findings) -> None:
    """A default privilege hands every table and function of the future out before anybody has looked at it."""
    for default in catalog.snapshot.default_privileges:
        for role, grant in catalog.holders(default.grants, catalog.client_roles):
            built_in = grant.grantee == PUBLIC and not default.schema
            if (built_in and (default.kind, grant.privilege) in _BUILT_IN) or grant.grantee == default.owner:
                continue
            where = f" in schema {default.schema}" if default.schema else ""
            name = f"default privileges of {default.owner}{where}"
            fix = (
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {default.owner}{where.replace('in schema', 'IN SCHEMA')} "
                f"REVOKE {grant.privilege} ON {default.kind.upper()} FROM {grant.grantee};"
            )
            findings.add(name, f"{role} would get {grant.privilege} on {default.kind}", fix=fix, role=role)


@control(
    "TP218",
    title="Clients reach only the schemas that are served",
    severity=Severity.HIGH,
    requirement="A1",
    maps=SCHEMA,
)
@falsified_by(
    "CREATE SCHEMA hidden; CREATE TABLE hidden.notes (id int); GRANT USAGE ON SCHEMA hidden TO {client_role};"
    "GRANT SELECT ON hidden.notes TO {client_role}",
    also=("TP101",),
)
def test_private_schemas_are_private(catalog: Catalog, findings: Findings) -> None:
    """Helpers, logs and identities live in schemas that no client has business in.

    A table outside the configured, exposed and derived ones that a client can read is a finding, the user table
    there too. One that is served is judged by its policies (TP204).
    """
    exposed = {*catalog.settings.schemas, *catalog.settings.exposed}
    for table in catalog.snapshot.tables:
        kind = catalog.kind(table)
        if table.schema in exposed:
            continue
        if kind in (Kind.DERIVED, Kind.CHILD, Kind.GLOBAL) or (table.extension and table.kind == "view"):
            continue
        for role in catalog.client_roles:
            held = catalog.privileges(table, role)
            if held:
                fix = f"REVOKE ALL ON {table.name} FROM {role}, PUBLIC;"
                detail = f"{role} holds {', '.join(sorted(held))} outside the schemas that are served"
                findings.add(table, detail, fix=fix, role=role)


@control(
    "TP219",
    title="No column grant is undone by a grant on the whole table",
    severity=Severity.MEDIUM,
    requirement="A1",
    maps=GRANTS,
)
@falsified_by(
    "GRANT UPDATE ({text_column}) ON {tenant_table} TO {client_role}; GRANT UPDATE ON {tenant_table} TO {client_role}"
)
def test_column_grants_mean_something(catalog: Catalog, findings: Findings) -> None:
    """Somebody limited a role to some columns, and somebody gave it all of them: the limit is void."""
    for table in catalog.own_tables:
        whole = {(g.grantee, g.privilege) for g in table.grants if g.grantee != table.owner}
        for column in table.columns:
            for grant in column.grants:
                if (grant.grantee, grant.privilege) in whole:
                    detail = f"{grant.privilege} ({column.name}) to {grant.grantee} is moot: it holds the table's"
                    findings.add(table, detail, role=grant.grantee)


@control(
    "TP220",
    title="Clients can neither read nor set sequences",
    severity=Severity.LOW,
    requirement="A1",
    maps=GRANTS,
)
@falsified_by("CREATE SEQUENCE {schema}.counter; GRANT SELECT, UPDATE ON SEQUENCE {schema}.counter TO {client_role}")
def test_sequences_are_closed(catalog: Catalog, findings: Findings) -> None:
    """A sequence shared by tenants tells each how much the others write; setval() makes their inserts fail.

    USAGE (nextval) is enough to insert.
    """
    for table in catalog.own_tables:
        if table.kind == "sequence":
            for role, grant in catalog.holders(table.grants, catalog.client_roles):
                if grant.privilege in ("SELECT", "UPDATE") and catalog.usable(table.schema, role):
                    fix = f"REVOKE {grant.privilege} ON SEQUENCE {table.name} FROM {grant.grantee};"
                    findings.add(table, f"{role} holds {grant.privilege}", fix=fix, role=role)


@control(
    "TP221",
    title="Nobody but administrators holds privileges on system tables, parameters and languages",
    severity=Severity.HIGH,
    requirement="A1",
    maps=GRANTS,
)
@falsified_by("GRANT SELECT ON pg_catalog.pg_authid TO {client_role}")
@falsified_by("GRANT SET ON PARAMETER session_replication_role TO {client_role}")
@falsified_by("GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO {client_role}")
def test_system_objects_are_closed(catalog: Catalog, findings: Findings) -> None:
    """pg_statistic holds samples of every tenant's values, pg_authid the password hashes.

    SET on session_replication_role switches triggers and foreign keys off; file functions read the server's disk.
    """
    for table in catalog.snapshot.tables:
        if table.schema in ("pg_catalog", "information_schema"):
            for grant in table.grants:
                if not catalog.is_admin(grant.grantee) and not (
                    grant.grantee == PUBLIC and grant.privilege == "SELECT" and _public_by_default(table.name)
                ):
                    findings.add(table, f"{grant.grantee} holds {grant.privilege}", role=grant.grantee)
    for function in catalog.snapshot.functions:
        if function.schema in ("pg_catalog", "information_schema") and not function.extension:
            for grant in function.grants:
                if not catalog.is_admin(grant.grantee) and grant.grantee != "pg_monitor":
                    findings.add(function, f"{grant.grantee} may execute it", role=grant.grantee)
    for named in catalog.snapshot.named_grants:
        for grant in named.grants:
            safe = named.name not in ("c", "internal") and not named.name.endswith("u")
            trusted_language = named.kind == "language" and named.trusted and safe
            if not catalog.is_admin(grant.grantee) and not trusted_language:
                what = f"{named.kind} {named.name}"
                findings.add(what, f"{grant.grantee} holds {grant.privilege}", role=grant.grantee)


def _public_by_default(name: str) -> bool:
    """Views that PostgreSQL itself opens to everyone, where somebody else's grant was added."""
    return not name.endswith(("pg_authid", "pg_statistic", "pg_largeobject", "pg_user_mapping", "pg_subscription"))
