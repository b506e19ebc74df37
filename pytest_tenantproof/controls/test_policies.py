"""2xx: policies are proven, not matched against bad patterns."""

from collections.abc import Iterator

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.model import PUBLIC, Function, Table
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._bound import prover
from pytest_tenantproof.controls._maps import ACCESS, FUNCTIONS
from pytest_tenantproof.model import Severity
from pytest_tenantproof.policy import Gap, laundered

_WRITES = frozenset({"INSERT", "UPDATE", "DELETE"})


def _guarded(catalog: Catalog) -> Iterator[Table]:
    yield from catalog.isolated_tables
    yield from (t for t in catalog.of_kind(Kind.USER) if t.kind in ("table", "partitioned"))


def _bound_roles(catalog: Catalog, table: Table) -> list[str]:
    """Roles that policies have to bind on a table: clients, scoped ones, and any other that a policy lets in."""
    s = catalog.settings
    named = {role for policy in table.policies for role in policy.roles} - {PUBLIC}
    exempt = {*s.service_roles, *(role for role in named if catalog.is_admin(role) or role == table.owner)}
    roles = dict.fromkeys((*catalog.client_roles, *s.scoped_roles, *sorted(named)))
    return [role for role in roles if role in catalog.graph.roles and role not in exempt]


@control(
    "TP204",
    title="Every policy provably binds rows to the caller's tenant",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("CREATE POLICY open_door ON {tenant_table} FOR SELECT TO {client_role} USING (true)", also=("TP901",))
@falsified_by(
    "CREATE POLICY half_open ON {tenant_table} FOR UPDATE TO {client_role}"
    " USING ({tenant_column} = {trusted}) WITH CHECK ({tenant_column} IS NOT NULL)",
    also=("TP901",),
)
@falsified_by(
    "CREATE POLICY by_hand ON {tenant_table} FOR DELETE TO {client_role}"
    " USING ({tenant_column}::text = current_setting('app.tenant', true))",
    also=("TP901",),
)
def test_policies_bind_the_tenant(catalog: Catalog, findings: Findings) -> None:
    """One OR, one wrong column, one claim that users edit themselves: a policy that looks like a lock and is none.

    For each table, role and command the predicate that PostgreSQL would apply (permissive policies OR-ed,
    restrictive ones AND-ed, USING and WITH CHECK apart) must imply that the row's tenant is the caller's: by
    a trusted expression of the config, by one of the caller's own memberships, or through a parent row that
    is bound so. What is not understood is not proven, and the part that stood in the way is named.
    """
    for table in _guarded(catalog):
        open_: dict[tuple[str, str, str], dict[str, list[str]]] = {}
        for role in _bound_roles(catalog, table):
            for gap in prover(catalog).gaps(table, role):
                seen = open_.setdefault((gap.policy, gap.reason, gap.expression), {})
                seen.setdefault(role, []).append(_command(gap))
            if table.row_security and (why := prover(catalog).world.bypasses(table, role)):
                findings.add(table, f"not provably tenant-bound: {why}", role=role)
        for (policy, reason, expression), roles in open_.items():
            role, commands = next(iter(roles.items()))
            where = f": {expression}" if expression else ""
            detail = f"not provably tenant-bound for {', '.join(roles)}: policy {policy} ({', '.join(commands)})"
            findings.add(table, f"{detail}: {reason}{where}", role=role, operation=commands[0].split()[0])


def _command(gap: Gap) -> str:
    return f"{gap.command} {gap.clause}" if gap.command == "UPDATE" else gap.command


@control(
    "TP208",
    title="The expressions that name the caller's tenant and user come from claims that nobody can choose",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by("{accessor_reads_user_metadata}", also=("TP901",))
@falsified_by("{accessor_has_a_fallback}", also=("TP901",))
@falsified_by(
    "CREATE FUNCTION {schema}.sync() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$ BEGIN"
    " new.raw_app_meta_data := new.raw_app_meta_data || new.raw_user_meta_data; RETURN new; END $$;"
    "REVOKE EXECUTE ON FUNCTION {schema}.sync() FROM PUBLIC"
)
def test_trusted_expressions_are_trustworthy(catalog: Catalog, findings: Findings) -> None:
    """Every proof stands on the trusted expressions of the config, so they are followed to the bottom.

    Through function bodies, each value they may give has to come from a setting that only the gateway sets,
    or from one of the caller's own memberships: no setting of the session, no `user_metadata`, no constant. Nor
    may a function write such a claim from `user_metadata`, in a trigger on the user table or a hook that makes tokens.
    """
    for weakness in prover(catalog).trust.weaknesses:
        where = weakness.function or weakness.expression
        findings.add(where, f"{weakness.expression} is not trustworthy: {weakness.reason}")
    for function in catalog.own_functions:
        if name := laundered(function, prover(catalog).trust.claims):
            findings.add(function, f"makes {name} of what users edit themselves, and policies trust it")


@control(
    "TP209",
    title="Policies can be evaluated by the roles they bind",
    severity=Severity.MEDIUM,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("{revoke_policy_function}", also=("TP901",))
@falsified_by(
    "CREATE POLICY circular ON {tenant_table} FOR SELECT TO {client_role} USING ({tenant_column} = {trusted}"
    " AND {tenant_column} IN (SELECT {tenant_column} FROM {tenant_table}))",
    also=("TP901", "TP204"),
)
def test_policies_can_be_evaluated(catalog: Catalog, findings: Findings) -> None:
    """A policy that errors is an outage, which somebody then mends with the service role.

    The role needs EXECUTE on the functions and SELECT on the tables that its policies name, and no policy may
    lead back to its own table. A refusal that comes from such an error also hides what the policy would do.
    """
    for role in catalog.client_roles:
        reads = {t.name: prover(catalog).reads(t, role) for t in _guarded(catalog)}
        for table in _guarded(catalog):
            if not catalog.privileges(table, role):
                continue
            for function in prover(catalog).calls(table, role):
                if "EXECUTE" not in catalog.graph.granted(function.grants, role):
                    fix = f"GRANT EXECUTE ON FUNCTION {function.signature} TO {role};"
                    findings.add(
                        table, f"{role} may not execute {function.signature} of its policy", fix=fix, role=role
                    )
            for name in reads[table.name]:
                read = catalog.tables.get(name)
                if read and "SELECT" not in catalog.privileges(read, role):
                    findings.add(table, f"{role} may not read {name}, which its policy looks up", role=role)
            if table.name in _reachable(reads, table.name):
                findings.add(table, f"its policy leads back to itself for {role}: infinite recursion", role=role)


def _reachable(reads: dict[str, frozenset[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = list(reads.get(start, ()))
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += reads.get(name, ())
    return seen


@control(
    "TP210",
    title="What policies rely on is beyond a client's reach",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by(
    "ALTER TABLE {membership_table} DISABLE ROW LEVEL SECURITY; GRANT INSERT ON {membership_table} TO {client_role}",
    also=("TP201", "TP204", "TP812"),
)
@falsified_by("{shadowable_accessor}", also=("TP208", "TP241", "TP901"))
def test_policies_rely_on_nothing_clients_change(catalog: Catalog, findings: Findings) -> None:
    """Whoever writes memberships writes policies; so does whoever replaces a function, or shadows a table it reads.

    A function that a policy relies on must not be owned by a role that a client reaches, nor read a table by
    an unqualified name without a pinned search path: a temporary table of the caller's would be read instead.
    """
    for table in catalog.of_kind(Kind.MEMBERSHIP):
        for role in catalog.client_roles:
            held = catalog.privileges(table, role) & _WRITES
            if held and not table.row_security:
                findings.add(table, f"{role} can {' and '.join(sorted(held))} memberships of anybody", role=role)
    for derived in catalog.settings.derived_tables:
        for function in prover(catalog).computing(derived.tenant):
            if not prover(catalog).only_takes_apart(function):
                detail = f"{derived.table} finds its tenant by it, and it is not known to only take its argument apart"
                findings.add(function, detail)
    for function in _relied_on(catalog):
        owned = [role for role in catalog.client_roles if function.owner in catalog.graph.becomes(role)]
        if owned:
            findings.add(function, f"policies rely on it, and {owned[0]} can replace it", role=owned[0])
        if function.setting("search_path") is None and (names := prover(catalog).unqualified(function)):
            fix = f"ALTER FUNCTION {function.signature} SET search_path = '';"
            detail = f"policies rely on it, and it reads {', '.join(names)} by whatever the caller's path finds"
            findings.add(function, detail, fix=fix)


def _relied_on(catalog: Catalog) -> list[Function]:
    found = set(prover(catalog).trust.relied_on)
    for table in _guarded(catalog):
        for role in catalog.client_roles:
            found |= {f.signature for f in prover(catalog).calls(table, role)}
    return [catalog.functions[name] for name in sorted(found)]


@control(
    "TP252",
    title="A restrictive policy restricts",
    severity=Severity.MEDIUM,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("CREATE POLICY tp_floor ON {tenant_table} AS RESTRICTIVE TO {client_role} USING (true)")
def test_restrictive_policies_restrict(catalog: Catalog, findings: Findings) -> None:
    """A restrictive policy is the floor under whatever permissive policies come to be. One that is always true looks
    like a floor and holds nothing: the next careless policy opens the table.
    """
    for table in _guarded(catalog):
        for policy in table.policies:
            said = [text.strip("() ").lower() for text in (policy.using, policy.check) if text]
            if not policy.permissive and said and all(text == "true" for text in said):
                findings.add(table, f"restrictive policy {policy.name} is always true: it holds nothing back")
