"""2xx: who can become whom, and who is exempt from row security."""

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import PRIVILEGE
from pytest_tenantproof.model import Severity

_PREDEFINED = frozenset(
    {
        "pg_checkpoint",
        "pg_create_subscription",
        "pg_database_owner",
        "pg_execute_server_program",
        "pg_maintain",
        "pg_monitor",
        "pg_read_all_data",
        "pg_read_all_settings",
        "pg_read_all_stats",
        "pg_read_server_files",
        "pg_signal_autovacuum_worker",
        "pg_signal_backend",
        "pg_stat_scan_tables",
        "pg_use_reserved_connections",
        "pg_write_all_data",
        "pg_write_server_files",
    }
)


@control(
    "TP211",
    title="No role outside the declared ones is exempt from row security or can make itself so",
    severity=Severity.CRITICAL,
    requirement="C1",
    maps=PRIVILEGE,
)
@falsified_by("CREATE ROLE tp_etl LOGIN BYPASSRLS")
@falsified_by("ALTER ROLE {client_role} CREATEROLE")
@falsified_by("ALTER ROLE {gateway_role} REPLICATION")
def test_no_undeclared_dangerous_role(catalog: Catalog, findings: Findings) -> None:
    """SUPERUSER, BYPASSRLS, REPLICATION and CREATEROLE each read everything, or get to.

    Only roles named in `admin_roles` may have them; `service_roles` may have BYPASSRLS, if they cannot log in.
    """
    service = set(catalog.settings.service_roles)
    for role in catalog.snapshot.roles:
        if catalog.is_admin(role.name):
            continue
        attributes = {
            "SUPERUSER": role.superuser,
            "BYPASSRLS": role.bypass_rls and not (role.name in service and not role.login),
            "REPLICATION": role.replication,
            "CREATEROLE": role.create_role,
            "CREATEDB": role.create_db,
        }
        for attribute in (name for name, on in attributes.items() if on):
            fix = f"ALTER ROLE {role.name} NO{attribute};"
            findings.add(role, f"has {attribute}", fix=fix, role=role.name)


@control(
    "TP212",
    title="Client roles can become nobody else",
    severity=Severity.CRITICAL,
    requirement="C1",
    maps=PRIVILEGE,
)
@falsified_by("GRANT {service_role} TO {client_role}", also=("TP213", "TP215", "TP204", "TP218", "TP232"))
@falsified_by(
    "GRANT {owner} TO {client_role}", also=("TP213", "TP214", "TP201", "TP204", "TP210", "TP215", "TP216", "TP250")
)
def test_client_roles_reach_nobody(catalog: Catalog, findings: Findings) -> None:
    """A client role that is a member of the service role or of an owner can switch row security off.

    The whole membership graph counts, by INHERIT, SET and ADMIN alike. Who comes without a login must not become one
    who has one. A group that clients alone belong to counts as a client role itself.
    """
    for role in catalog.client_roles:
        reached = catalog.graph.becomes(role) - {role, "PUBLIC"}
        anonymous = catalog.settings.anonymous_roles
        fellows = {name for name in catalog.client_roles if role not in anonymous or name in anonymous}
        harmless = {name for name in reached if name in fellows or catalog.is_powerless(name)}
        for other in sorted(reached - harmless):
            fix = f"REVOKE {other} FROM {role};"
            findings.add(role, f"can act as {other} through membership", fix=fix, role=role)


@control(
    "TP213",
    title="Login roles reach owners, administrators and predefined powers by no path",
    severity=Severity.CRITICAL,
    requirement="C1",
    maps=PRIVILEGE,
)
@falsified_by("GRANT {owner} TO {gateway_role}", also=("TP214",))
@falsified_by("GRANT pg_read_all_data TO {gateway_role}")
@falsified_by("CREATE ROLE tp_worker LOGIN NOINHERIT; GRANT {service_role} TO tp_worker WITH ADMIN OPTION")
@falsified_by("GRANT {service_role} TO {gateway_role} WITH INHERIT TRUE", min_version=16, also=("TP207", "TP228"))
def test_logins_reach_no_owner(catalog: Catalog, findings: Findings) -> None:
    """What an application logs in as must not be able to become the owner of the tables it is kept out of.

    The gateway may SET ROLE to the service role, as the platform designed it, but not inherit from it. Nor may it hand
    the service role on to others.
    """
    s = catalog.settings
    for m in catalog.snapshot.memberships:
        if m.admin and m.role in s.service_roles and not catalog.is_admin(m.member):
            fix = f"REVOKE ADMIN OPTION FOR {m.role} FROM {m.member};"
            findings.add(m.member, f"may make others members of {m.role}", fix=fix, role=m.member)
    owners = {t.owner for t in catalog.isolated_tables} | {f.owner for f in catalog.own_functions}
    owners -= set(catalog.client_roles)
    exempt = {r.name for r in catalog.snapshot.roles if r.superuser or r.bypass_rls} - set(s.service_roles)
    forbidden = owners | exempt | _PREDEFINED | {r.name for r in catalog.snapshot.roles if catalog.is_admin(r.name)}
    for role in catalog.snapshot.roles:
        if catalog.is_admin(role.name) or role.name.startswith("pg_") or role.name in owners:
            continue
        for other in sorted((catalog.graph.becomes(role.name) - {role.name}) & forbidden):
            findings.add(role, f"can become {other}", fix=f"REVOKE {other} FROM {role.name};", role=role.name)
        for other in sorted((catalog.graph.acts_as(role.name) - {role.name}) & set(s.service_roles)):
            fix = f"GRANT {other} TO {role.name} WITH INHERIT FALSE;"
            findings.add(role, f"inherits {other} without SET ROLE", fix=fix, role=role.name)


@control(
    "TP214",
    title="Nothing that guards tenants is owned by a role that applications use",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=PRIVILEGE,
)
@falsified_by(
    "GRANT CREATE ON SCHEMA {schema} TO {client_role}; ALTER TABLE {tenant_table} OWNER TO {client_role}",
    also=("TP205", "TP213", "TP215", "TP216", "TP218", "TP201", "TP207", "TP204"),
)
def test_applications_own_nothing(catalog: Catalog, findings: Findings) -> None:
    """The owner can disable row security, drop triggers and replace functions, so it must not be reachable.

    Client, service, gateway and other login roles may own no table, schema, function or view in scope.
    """
    used = {r.name for r in catalog.snapshot.roles if r.login and not catalog.is_admin(r.name)}
    used |= {*catalog.client_roles, *catalog.settings.service_roles, *catalog.settings.scoped_roles}
    owned: list[tuple[str, str]] = [(t.name, t.owner) for t in catalog.own_tables]
    owned += [(f.signature, f.owner) for f in catalog.own_functions]
    owned += [(f"schema {s.name}", s.owner) for s in catalog.snapshot.schemas if not s.extension]
    owned += [("database", catalog.snapshot.database.owner)]
    for name, owner in owned:
        if owner in used and not catalog.is_admin(owner):
            findings.add(name, f"is owned by {owner}, which applications act as", role=owner)


@control(
    "TP228",
    title="The gateway's login holds no privileges of its own, and what it switches to does not log in",
    severity=Severity.HIGH,
    requirement="C1",
    maps=PRIVILEGE,
)
@falsified_by("GRANT SELECT ON {tenant_table} TO {gateway_role}", also=("TP207",))
@falsified_by("ALTER ROLE {client_role} LOGIN")
def test_gateway_holds_nothing(catalog: Catalog, findings: Findings) -> None:
    """A request that fails to switch roles runs as the gateway itself. It must then see nothing.

    And who logs in as the very role that the gateway switches to comes with claims of its own making.
    """
    for role in catalog.gateway_roles:
        for client in sorted(catalog.graph.becomes(role.name) & set(catalog.client_roles) - {role.name}):
            if catalog.graph.roles[client].login and not catalog.is_admin(role.name):
                detail = f"can log in itself, though {role.name} acts as it"
                findings.add(client, detail, fix=f"ALTER ROLE {client} NOLOGIN;", role=client)
        bound = role.name in (*catalog.settings.scoped_roles, *catalog.client_roles)
        if catalog.is_admin(role.name) or bound:
            continue
        for table in catalog.isolated_tables:
            grants = (*table.grants, *(g for column in table.columns for g in column.grants))
            held = catalog.graph.granted((g for g in grants if g.grantee != "PUBLIC"), role.name)
            if held:
                fix = f"REVOKE ALL ON {table.name} FROM {role.name};"
                findings.add(table, f"{role.name} itself holds {', '.join(sorted(held))}", fix=fix, role=role.name)
            if any(p.permissive and role.name in p.roles for p in table.policies):
                findings.add(table, f"a policy lets {role.name} itself in", role=role.name)
