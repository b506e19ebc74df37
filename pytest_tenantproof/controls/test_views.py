"""2xx: views and the like read with their owner's rights unless told otherwise."""

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._bound import is_caller_bound
from pytest_tenantproof.controls._maps import ACCESS
from pytest_tenantproof.model import Severity

_SHARED = (Kind.GLOBAL, Kind.TOOL)


@control(
    "TP231",
    title="Views that clients can use read with the caller's rights",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by(
    "CREATE VIEW {schema}.leaky AS SELECT * FROM {tenant_table}; GRANT SELECT ON {schema}.leaky TO {client_role}"
)
def test_views_use_the_callers_rights(catalog: Catalog, findings: Findings) -> None:
    """A view without security_invoker reads as its owner, whom row security exempts or shows everything.

    CREATE OR REPLACE VIEW without WITH (...) resets the option silently. A filter inside such a view is no
    barrier either: cheap functions of the caller run before it.
    """
    for view in catalog.views:
        if view.kind != "view" or view.option.get("security_invoker") in ("true", "on", "1", "yes"):
            continue
        touched = [name for name in catalog.reads(view) if catalog.kind_of(name) not in _SHARED]
        for role in catalog.client_roles if touched or catalog.calls(view) else ():
            if catalog.privileges(view, role):
                fix = f"ALTER VIEW {view.name} SET (security_invoker = true);"
                findings.add(view, f"{role} reads {', '.join(touched)} with {view.owner}'s rights", fix=fix, role=role)


@control(
    "TP232",
    title="No client can read a materialised view or foreign table of tenant data",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by(
    "CREATE MATERIALIZED VIEW {schema}.totals AS SELECT {tenant_column}, count(*) AS n FROM {tenant_table} GROUP BY 1;"
    "GRANT SELECT ON {schema}.totals TO {client_role}"
)
def test_no_materialised_copies(catalog: Catalog, findings: Findings) -> None:
    """Row security does not exist on materialised views and foreign tables: a grant shows every tenant's rows."""
    for table in catalog.snapshot.tables:
        if table.kind not in ("matview", "foreign"):
            continue
        shared = table.kind == "matview" and all(catalog.kind_of(name) in _SHARED for name in catalog.reads(table))
        for role in () if shared or catalog.kind(table) is Kind.GLOBAL else catalog.client_roles:
            if catalog.privileges(table, role):
                fix = f"REVOKE ALL ON {table.name} FROM {role}, PUBLIC;"
                findings.add(table, f"{role} reads it, and row security cannot bind it", fix=fix, role=role)


@control(
    "TP233",
    title="Views call nothing that reads past row security",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by(
    "CREATE FUNCTION {schema}.everything() RETURNS SETOF {tenant_table} LANGUAGE sql SECURITY DEFINER"
    " SET search_path = '' AS 'SELECT * FROM {tenant_table}';"
    "CREATE VIEW {schema}.through WITH (security_invoker = true) AS SELECT * FROM {schema}.everything();"
    "GRANT SELECT ON {schema}.through TO {client_role}",
    also=("TP241",),
)
def test_views_call_no_definer_functions(catalog: Catalog, findings: Findings) -> None:
    """security_invoker ends at a SECURITY DEFINER function: what that returns, the caller gets."""
    for view in catalog.views:
        for role in catalog.client_roles:
            if not catalog.privileges(view, role):
                continue
            for function in catalog.calls(view):
                if function.security_definer and not is_caller_bound(catalog, function):
                    findings.add(view, f"calls {function.signature}, which runs as {function.owner}", role=role)


@control(
    "TP234",
    title="Writes through views meet the caller's own policies",
    severity=Severity.HIGH,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by(
    "CREATE VIEW {schema}.editable WITH (security_invoker = true) AS SELECT * FROM {tenant_table};"
    "CREATE FUNCTION {schema}.edit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''"
    " AS 'BEGIN RETURN new; END';"
    "CREATE TRIGGER edit INSTEAD OF UPDATE ON {schema}.editable FOR EACH ROW EXECUTE FUNCTION {schema}.edit();"
    "GRANT UPDATE ON {schema}.editable TO {client_role}",
)
def test_instead_of_triggers_are_invokers(catalog: Catalog, findings: Findings) -> None:
    """An INSTEAD OF trigger that runs as its owner writes whatever row it is told to."""
    for view in catalog.views:
        for trigger in view.triggers:
            function = catalog.functions.get(trigger.function)
            if trigger.timing == "INSTEAD OF" and function and function.security_definer:
                findings.add(view, f"trigger {trigger.name} writes as {function.owner} by {function.signature}")


@control(
    "TP235",
    title="No foreign server or user mapping is in a client's reach",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by(
    "CREATE FOREIGN DATA WRAPPER tp_wrapper; GRANT USAGE ON FOREIGN DATA WRAPPER tp_wrapper TO {client_role}",
    also=("TP221",),
)
@falsified_by(
    "CREATE FOREIGN DATA WRAPPER tp_wrapper; CREATE SERVER tp_server FOREIGN DATA WRAPPER tp_wrapper;"
    "CREATE USER MAPPING FOR PUBLIC SERVER tp_server OPTIONS (user 'x')"
)
def test_no_foreign_servers_for_clients(catalog: Catalog, findings: Findings) -> None:
    """A user mapping lends its stored login to whoever may use the server: often the way back in as a superuser."""
    roles = catalog.client_roles
    for server in catalog.snapshot.servers:
        for role, _ in catalog.holders(server.grants, roles):
            findings.add(f"server {server.name}", f"{role} may use it", role=role)
    for mapping in catalog.snapshot.user_mappings:
        admin = mapping.user != "PUBLIC" and catalog.is_admin(mapping.user)
        if not admin:
            options = f" with {', '.join(mapping.options)}" if mapping.options else ""
            findings.add(f"server {mapping.server}", f"logs {mapping.user} in{options}", role=mapping.user)
    for named in catalog.snapshot.named_grants:
        for role, _ in catalog.holders(named.grants, roles) if named.kind == "wrapper" else ():
            findings.add(f"wrapper {named.name}", f"{role} may create servers with it", role=role)
