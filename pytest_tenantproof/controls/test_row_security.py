"""2xx: row security is on, forced, and everywhere a row can be reached."""

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.model import PUBLIC
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import ACCESS
from pytest_tenantproof.model import Severity

_WRITES = frozenset({"INSERT", "UPDATE", "DELETE"})


@control(
    "TP201",
    title="Row security is enabled on every table that holds tenants' rows",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("ALTER TABLE {tenant_table} DISABLE ROW LEVEL SECURITY", also=("TP204", "TP210", "TP812"))
@falsified_by("ALTER TABLE {registry} DISABLE ROW LEVEL SECURITY", also=("TP204", "TP210", "TP812"))
def test_row_security_is_enabled(catalog: Catalog, findings: Findings) -> None:
    """Without row security a grant is a grant on every tenant's rows.

    The registry, memberships, audit logs, partitions and copies count too: a partition can be read by its
    own name, past its parent's policies. User tables count as soon as a client holds a privilege on them.
    """
    for table in catalog.isolated_tables:
        if not table.row_security:
            fix = f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY;"
            findings.add(table, "row security is not enabled", fix=fix)
    for table in catalog.of_kind(Kind.USER):
        if not table.row_security and any(catalog.privileges(table, r) for r in catalog.client_roles):
            findings.add(table, "clients hold privileges on it, and row security is not enabled")


@control(
    "TP203",
    title="Row security is forced on every tenant table",
    severity=Severity.HIGH,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("ALTER TABLE {tenant_table} NO FORCE ROW LEVEL SECURITY")
def test_row_security_is_forced(catalog: Catalog, findings: Findings) -> None:
    """Without FORCE the owner is exempt, and with it every SECURITY DEFINER function and view the owner has."""
    for table in catalog.isolated_tables:
        if not table.row_security_forced:
            fix = f"ALTER TABLE {table.name} FORCE ROW LEVEL SECURITY;"
            findings.add(table, "row security is not forced", fix=fix)


@control(
    "TP205",
    title="Anonymous callers hold nothing on tenant data",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("GRANT SELECT ON {tenant_table} TO {anon_role}")
@falsified_by("GRANT SELECT ({tenant_column}) ON {tenant_table} TO {anon_role}")
@falsified_by(
    "CREATE POLICY open_door ON {tenant_table} FOR SELECT TO {anon_role} USING (true)",
    also=("TP204", "TP901"),
)
def test_anonymous_holds_nothing(catalog: Catalog, findings: Findings) -> None:
    """A caller without a login has no tenant, so no privilege on a tenant's table can be meant."""
    anonymous = tuple(r for r in catalog.settings.anonymous_roles if r in catalog.graph.roles)
    kinds = (Kind.TENANT, Kind.MEMBERSHIP, Kind.REGISTRY, Kind.AUDIT, Kind.USER, Kind.CHILD, Kind.UNCLASSIFIED)
    for table in catalog.of_kind(*kinds):
        for role in anonymous:
            held = catalog.privileges(table, role)
            if held:
                fix = f"REVOKE ALL ON {table.name} FROM {role}, PUBLIC;"
                findings.add(table, f"{role} holds {', '.join(sorted(held))}", fix=fix, role=role)
            for policy in table.policies:
                if policy.permissive and role in policy.roles and policy.using != "false":
                    findings.add(table, f"policy {policy.name} lets {role} in", role=role)


@control(
    "TP206",
    title="Tables shared by all tenants cannot be written by clients",
    severity=Severity.HIGH,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("{open_global_table}")
def test_global_tables_are_read_only(catalog: Catalog, findings: Findings) -> None:
    """What every tenant reads, one tenant must not write: a price list, a feature flag, a bucket's 'public'."""
    for table in catalog.of_kind(Kind.GLOBAL):
        for role in catalog.client_roles:
            names = catalog.graph.acts_as(role)
            held = catalog.privileges(table, role) & _WRITES
            for privilege in sorted(held):
                open_ = not table.row_security or any(
                    policy.permissive
                    and policy.command in ("ALL", privilege)
                    and names & set(policy.roles)
                    and (policy.check if privilege == "INSERT" else policy.using) != "false"
                    for policy in table.policies
                )
                if open_:
                    findings.add(table, f"{role} can {privilege} rows that every tenant sees", role=role)


@control(
    "TP207",
    title="No tenant row is published to roles outside the configuration",
    severity=Severity.HIGH,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("CREATE ROLE tp_reader LOGIN; GRANT SELECT ON {tenant_table} TO tp_reader", also=("TP211",))
def test_only_known_roles_read_tenant_tables(catalog: Catalog, findings: Findings) -> None:
    """A reporting login, an ETL user, a colleague: each one is a way round the product's own front door.

    Only client, service and scoped roles of the config, the owner and administrators may hold privileges.
    PUBLIC may hold none.
    """
    for table in catalog.isolated_tables:
        known = catalog.known_roles | {table.owner}
        for grant in (*table.grants, *(g for column in table.columns for g in column.grants)):
            if grant.grantee == PUBLIC or grant.grantee not in known:
                fix = f"REVOKE ALL ON {table.name} FROM {grant.grantee};"
                findings.add(table, f"{grant.grantee} holds {grant.privilege}", fix=fix, role=grant.grantee)
