"""4xx: what a back end acts as in the database, when it goes through the tenant-scoped client."""

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Role
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import ACCESS, PRIVILEGE
from pytest_tenantproof.model import Severity
from pytest_tenantproof.target import TargetInfo

_NO_ROLE = "the product declares no scoped_roles"
_NOT_A_REFUSAL = frozenset({"42501", "42883", "42P01", "3F000"})


def _scoped(catalog: Catalog, findings: Findings) -> list[Role]:
    """The scoped roles that exist; one that does not is a finding."""
    if not catalog.settings.scoped_roles:
        findings.not_applicable(_NO_ROLE)
    for name in catalog.settings.scoped_roles:
        if name not in catalog.graph.roles:
            findings.add(name, "is a scoped role by the config and does not exist", role=name)
    return [catalog.graph.roles[name] for name in catalog.settings.scoped_roles if name in catalog.graph.roles]


@control(
    "TP401",
    title="The scoped role can do nothing but act for one tenant",
    severity=Severity.CRITICAL,
    requirement="C2",
    maps=PRIVILEGE,
)
@falsified_by("ALTER ROLE {scoped_role} BYPASSRLS", also=("TP204", "TP211", "TP213"))
@falsified_by("ALTER ROLE {scoped_role} LOGIN", also=("TP213",))
@falsified_by("GRANT {service_role} TO {scoped_role}")
@falsified_by("CREATE ROLE tp_backend LOGIN INHERIT; GRANT {scoped_role} TO tp_backend")
@falsified_by("CREATE ROLE tp_backend LOGIN NOINHERIT; GRANT {scoped_role}, {service_role} TO tp_backend")
@falsified_by("GRANT TRUNCATE ON {tenant_table} TO {scoped_role}")
def test_scoped_role_attributes(catalog: Catalog, findings: Findings) -> None:
    """The client hands every request to this role, so whatever it can do beyond policies, every request can.

    It must not be exempt from row security, log in, own, create or become anything, nor hold privileges that
    policies do not bind. What logs in as a member of it must have to say so: with INHERIT, a session that forgot
    to bind a tenant would act as the scoped role all the same. And it must be a member of nothing else, or one
    statement may change to a role that no tenant and no actor is bound to.
    """
    for role in _scoped(catalog, findings):
        attributes = {
            "SUPERUSER": role.superuser,
            "BYPASSRLS": role.bypass_rls,
            "LOGIN": role.login,
            "REPLICATION": role.replication,
            "CREATEROLE": role.create_role,
            "CREATEDB": role.create_db,
        }
        for attribute in (name for name, on in attributes.items() if on):
            findings.add(role, f"has {attribute}", fix=f"ALTER ROLE {role.name} NO{attribute};", role=role.name)
        for other in sorted(catalog.graph.becomes(role.name) - {role.name, "PUBLIC"}):
            findings.add(role, f"can become {other}", fix=f"REVOKE {other} FROM {role.name};", role=role.name)
        for login in catalog.graph.logins_reaching((role.name,)):
            if catalog.is_admin(login.name):
                continue
            if role.name in catalog.graph.acts_as(login.name) - {login.name}:
                fix = f"ALTER ROLE {login.name} NOINHERIT; GRANT {role.name} TO {login.name};"
                findings.add(login, f"inherits {role.name} without SET ROLE", fix=fix, role=login.name)
            for other in sorted(catalog.graph.becomes(login.name) - {login.name, role.name, "PUBLIC"}):
                fix = f"REVOKE {other} FROM {login.name};"
                findings.add(login, f"can become {role.name}, and {other} too", fix=fix, role=login.name)
        for table in catalog.own_tables:
            unbound = catalog.privileges(table, role.name) & {"TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"}
            for privilege in sorted(unbound):
                fix = f"REVOKE {privilege} ON {table.name} FROM {role.name};"
                findings.add(table, f"{role.name} holds {privilege}, which no policy binds", fix=fix, role=role.name)


@control(
    "TP402",
    title="Without a bound tenant, the scoped role gets an error and not an answer",
    severity=Severity.CRITICAL,
    requirement="C2",
    maps=ACCESS,
)
@falsified_by("{silent_accessor}")
def test_accessor_raises(
    catalog: Catalog, database: psycopg.Connection[Any], target: TargetInfo, findings: Findings
) -> None:
    """An accessor that gives NULL turns a forgotten tenant into an empty page, which nobody reports.

    Acting as each scoped role with nothing bound, the expression that its policies read the tenant by has to
    raise, and so has a look at each tenant table that holds rows.
    """
    if target.class_ == "live":
        findings.elsewhere("a read-only session of a live target does not become the scoped role")
    for role in _scoped(catalog, findings):
        used = _accessors(catalog, role.name)
        if not used:
            findings.add(role, "none of its policies reads the tenant by a trusted expression", role=role.name)
        for expression in used:
            if _answers(database, role.name, sql.SQL("SELECT {}").format(_raw(expression)), findings):
                findings.add(role, f"{expression} answers without a tenant", role=role.name)
        for table in catalog.tenant_tables:
            if table.kind in ("table", "partitioned") and "SELECT" in catalog.privileges(table, role.name):
                look = sql.SQL("SELECT FROM {} LIMIT 1").format(_raw(table.name))
                if database.execute(look).rowcount and _answers(database, role.name, look, findings):
                    findings.add(table, f"answers {role.name} without a tenant", role=role.name)


def _raw(text: str) -> sql.SQL:
    """An expression or name as the catalog or the config spells it."""
    return sql.SQL(text)


def _accessors(catalog: Catalog, role: str) -> list[str]:
    policies = [p for table in catalog.tenant_tables for p in table.policies if role in p.roles]
    return [
        e for e in catalog.settings.trusted_tenant_expressions if any(e in f"{p.using} {p.check}" for p in policies)
    ]


def _answers(database: psycopg.Connection[Any], role: str, query: sql.Composed, findings: Findings) -> bool:
    """Whether a query succeeds as the role with nothing bound. What could not be tried is not run."""
    try:
        with database.transaction(force_rollback=True):
            database.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            database.execute("SELECT set_config('request.jwt.claims', '', true), set_config('app.binding', '', true)")
            with database.transaction():
                database.execute(query)
    except psycopg.Error as error:
        if error.sqlstate in _NOT_A_REFUSAL:
            findings.not_run(f"this session could not act as {role} ({error.sqlstate})")
        return False
    return True


@control(
    "TP403",
    title="No tenant is bound by default to the scoped role or to what logs in as it",
    severity=Severity.CRITICAL,
    requirement="C2",
    maps=ACCESS,
)
@falsified_by(
    "ALTER ROLE {scoped_role} SET request.jwt.claims = '{{}}'",
    also=("TP266",),
)
@falsified_by(
    "CREATE ROLE tp_backend LOGIN NOINHERIT; GRANT {scoped_role} TO tp_backend;"
    "ALTER ROLE tp_backend SET app.tenant_id = '1'",
    also=("TP266",),
)
@falsified_by(
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET app.binding = ''x''', current_database()); END $$",
    also=("TP266",),
)
def test_no_default_tenant(catalog: Catalog, findings: Findings) -> None:
    """A setting on a role or database is there from the start of each session: code that forgets works on.

    Neither the scoped role, nor a login that reaches it, nor the database may set any setting with a dot in its
    name, which is what tenants, claims and seals are kept in.
    """
    roles = {role.name for role in _scoped(catalog, findings)}
    roles |= {login.name for login in catalog.graph.logins_reaching(roles) if not catalog.is_admin(login.name)}
    for setting in _dotted(catalog):
        if not setting[0] or setting[0] in roles:
            where = setting[0] or "database"
            findings.add(where, f"sets {setting[1]} for every session", role=setting[0] or None)


def _dotted(catalog: Catalog) -> Iterator[tuple[str, str]]:
    return ((setting.role, setting.name) for setting in catalog.snapshot.settings if "." in setting.name)
