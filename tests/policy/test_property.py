"""The prover never says "bound" where the database shows, or takes, another tenant's row."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import psycopg.conninfo
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from pytest_tenantproof.catalog import read_snapshot
from pytest_tenantproof.catalog.model import Policy, Snapshot, Table
from pytest_tenantproof.policy import Prover, World
from tests.policy.conftest import policy_settings
from tests.policy.generate import Case, cases

pytestmark = pytest.mark.xdist_group("policy")

TENANTS = {key: f"00000000-0000-0000-0000-00000000000{key}" for key in "abc"}
USERS = {key: f"00000000-0000-0000-0000-0000000000{key}{key}" for key in "abc"}
# Every value of every column that a policy may compare meets every tenant.
ROWS = """
INSERT INTO auth.users SELECT ('00000000-0000-0000-0000-0000000000' || k || k)::uuid FROM unnest(ARRAY['a','b','c']) k;
INSERT INTO tenants SELECT ('00000000-0000-0000-0000-00000000000' || k)::uuid, k FROM unnest(ARRAY['a','b','c']) k;
INSERT INTO members SELECT t.id, ('00000000-0000-0000-0000-0000000000' || t.slug || t.slug)::uuid, 'admin' FROM tenants t
  WHERE t.slug <> 'c';
INSERT INTO members SELECT t.id, '00000000-0000-0000-0000-0000000000cc', 'user' FROM tenants t WHERE t.slug <> 'a';
INSERT INTO projects SELECT gen_random_uuid(), t.id, 'p', ('00000000-0000-0000-0000-0000000000' || t.slug || t.slug)::uuid FROM tenants t;
INSERT INTO probe SELECT gen_random_uuid(), p.tenant_id, s, o, p.id, f, l FROM projects p
  CROSS JOIN (SELECT id FROM tenants UNION ALL SELECT NULL) a(s)
  CROSS JOIN (VALUES ('00000000-0000-0000-0000-0000000000aa'::uuid), ('00000000-0000-0000-0000-0000000000bb'), (NULL)) b(o)
  CROSS JOIN (VALUES (true), (false), (NULL)) c(f) CROSS JOIN (VALUES ('x'), (NULL)) d(l);
INSERT INTO probe SELECT t.id, t.id, o.id, t.id, (SELECT p.id FROM projects p WHERE p.tenant_id = t.id), true, 'x'
  FROM tenants t, tenants o WHERE o.slug = 'a' AND t.slug <> 'a';
"""
PROBE = """CREATE TABLE probe (id uuid PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, shared uuid, owner uuid,
 project_id uuid NOT NULL, flag boolean, label text, FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id));
ALTER TABLE probe ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON probe TO authenticated; GRANT SELECT ON members, projects, tenants TO authenticated;
CREATE FUNCTION app.drawn(a uuid, b uuid) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
 AS $$ BEGIN RETURN false; END $$;
"""


@dataclass(frozen=True)
class Caller:
    """Claims of one caller, a setting it may have chosen, and the tenants that are its own."""

    claims: str
    setting: str
    own: frozenset[str]


def _caller(tenant: str, user: str, forged: str = "", setting: str = "") -> Caller:
    claims: dict[str, Any] = {"role": "authenticated"}
    if tenant:
        claims["app_metadata"] = {"tenant_id": TENANTS[tenant]}
    if user:
        claims["sub"] = USERS[user]
    if forged:
        claims["user_metadata"] = {"tenant_id": TENANTS[forged]}
    memberships = {"a": "a", "b": "b", "c": "bc", "": ""}[user]
    own = frozenset(TENANTS[key] for key in {*tenant, *memberships})
    return Caller(json.dumps(claims), TENANTS[setting] if setting else "", own)


CALLERS = (
    _caller("a", "a"),
    _caller("a", "a", forged="b", setting="b"),
    _caller("a", "", setting="b"),
    _caller("", "b", forged="a", setting="a"),
    _caller("", "c"),
    _caller("", "", forged="b"),
    Caller("", "", frozenset()),
)


@dataclass
class Bench:
    connection: psycopg.Connection[Any]
    snapshot: Snapshot
    rows: Counter[str]
    projects: list[tuple[Any, Any]]

    def table(self) -> Table:
        return next(t for t in self.snapshot.tables if t.name == "public.probe")


LOOKED_UP = {
    "open": "",
    "guarded": """ALTER TABLE members ENABLE ROW LEVEL SECURITY; ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON members FOR SELECT TO authenticated USING (user_id = auth.uid());
CREATE POLICY theirs ON projects TO authenticated USING (tenant_id IN (SELECT m.tenant_id FROM members m) OR name = 'q');
CREATE POLICY never ON projects AS RESTRICTIVE TO authenticated USING (name <> 'q');
""",
    "half": """ALTER TABLE members ENABLE ROW LEVEL SECURITY; ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY admins ON members FOR SELECT TO authenticated USING (user_id = auth.uid() OR role = 'admin');
CREATE POLICY theirs ON projects TO authenticated USING (tenant_id = app.tenant());
CREATE POLICY owned ON projects FOR SELECT TO staff USING (owner_id = auth.uid());
""",
}
"""What protects the tables that policies look up."""


@pytest.fixture(scope="module", params=LOOKED_UP)
def bench(policy_server: str, request: pytest.FixtureRequest) -> Iterator[Bench]:
    name = f"drawn_{request.param}"
    with psycopg.connect(policy_server, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE plain".encode())
    dsn = psycopg.conninfo.make_conninfo(policy_server, dbname=name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"{PROBE}{ROWS}{LOOKED_UP[request.param]}".encode())
        rows = Counter(row[0] for row in connection.execute(LEFT.encode()))
        projects = connection.execute("SELECT tenant_id, id FROM projects").fetchall()
        yield Bench(connection, read_snapshot(connection), rows, projects)


def _statement(number: int, policy: tuple[bool, str, str, str, str]) -> str:
    permissive, command, role, using, check = policy
    kind = "PERMISSIVE" if permissive else "RESTRICTIVE"
    clauses = f" USING ({using})" if command != "INSERT" else ""
    if command == "INSERT":
        clauses += f" WITH CHECK ({check or using})"
    elif command in ("ALL", "UPDATE") and check:
        clauses += f" WITH CHECK ({check})"
    return f"CREATE POLICY p{number} ON probe AS {kind} FOR {command} TO {role}{clauses}"


POLICIES = """SELECT p.polname::text, p.polcmd::text, p.polpermissive,
 ARRAY(SELECT coalesce(r.rolname::text, 'PUBLIC') FROM unnest(p.polroles) o(oid) LEFT JOIN pg_roles r USING (oid)),
 coalesce(pg_get_expr(p.polqual, p.polrelid), ''), coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
 FROM pg_policy p WHERE p.polrelid = 'public.probe'::regclass"""
CLAUSES = ("SELECT USING", "INSERT WITH CHECK", "UPDATE USING", "UPDATE WITH CHECK", "DELETE USING")
COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}


def _proven(bench: Bench, case: Case) -> frozenset[str]:
    """The clauses that are proven, of those that some policy opens."""
    bench.connection.execute("SET LOCAL search_path = ''")
    rows = bench.connection.execute(POLICIES).fetchall()
    bench.connection.execute("SET LOCAL search_path = public")
    policies = tuple(Policy(n, COMMANDS[c], p, tuple(r), u, w) for n, c, p, r, u, w in rows)
    table = replace(bench.table(), policies=policies)
    tables = tuple(table if t.name == table.name else t for t in bench.snapshot.tables)
    functions = tuple(replace(f, body=case.body) if f.name == "app.drawn" else f for f in bench.snapshot.functions)
    world = World(replace(bench.snapshot, tables=tables, functions=functions), policy_settings())
    gaps = {f"{gap.command} {gap.clause}" for gap in Prover(world).gaps(table, "authenticated")}
    permissive = {p.command for p in policies if p.permissive and {"authenticated", "staff", "PUBLIC"} & set(p.roles)}
    open_ = {clause for clause in CLAUSES if permissive & {"ALL", clause.split()[0]}}
    return frozenset(open_ - gaps)


NEW = "INSERT INTO probe VALUES (gen_random_uuid(), %(t)s, %(o)s, NULL, %(p)s, true, 'x')"
MOVED = "UPDATE probe SET tenant_id = %(t)s, project_id = %(p)s"
LEFT = "SELECT tenant_id::text FROM probe WHERE label IS DISTINCT FROM 'seized'"


def _leaks(bench: Bench, caller: Caller, clauses: frozenset[str]) -> Iterator[tuple[str, str]]:
    """(clause, what happened) where another tenant's row was shown, changed or made."""
    if "SELECT USING" in clauses:
        for row in _attempt(bench, caller, "SELECT DISTINCT tenant_id::text FROM probe", {}) or ():
            if row[0] not in caller.own:
                yield "SELECT USING", f"rows of {row[0]} are seen"
    writes = {"DELETE USING": "DELETE FROM probe", "UPDATE USING": "UPDATE probe SET label = 'seized'"}
    for clause in sorted(clauses & set(writes)):
        with bench.connection.transaction(force_rollback=True):
            if _attempt(bench, caller, writes[clause], {}, keep=True) is None:
                continue
            left = Counter(row[0] for row in bench.connection.execute(LEFT.encode()))
        if lost := [
            tenant for tenant, count in bench.rows.items() if left[tenant] < count and tenant not in caller.own
        ]:
            yield clause, f"rows of {lost} are reached"
    makes = {"INSERT WITH CHECK": NEW, "UPDATE WITH CHECK": MOVED}
    for clause in sorted(clauses & set(makes)):
        for tenant, project in bench.projects:
            values = {"t": tenant, "p": project, "o": tenant}
            if str(tenant) not in caller.own and (_attempt(bench, caller, makes[clause], values) or [(0,)])[0][0]:
                yield clause, f"rows of {tenant} are made"


def _attempt(bench: Bench, caller: Caller, statement: str, values: dict[str, Any], *, keep: bool = False) -> Any:
    """Rows of a SELECT, [(rows,)] of a write; None where it was refused or failed."""
    try:
        with bench.connection.transaction(force_rollback=not keep):
            settings_ = "set_config('request.jwt.claims', %s, true), set_config('app.tenant', %s, true)"
            bench.connection.execute(f"SELECT {settings_}", (caller.claims, caller.setting))
            bench.connection.execute("SET LOCAL ROLE authenticated")
            done = bench.connection.execute(statement, values)
            return done.fetchall() if done.description else [(done.rowcount,)]
    except psycopg.Error:
        return None
    finally:
        bench.connection.execute("RESET ROLE")


def _check(bench: Bench, case: Case) -> None:
    """Fails where a proof is wrong."""
    with bench.connection.transaction(force_rollback=True):
        try:
            with bench.connection.transaction():
                head = "CREATE OR REPLACE FUNCTION app.drawn(a uuid, b uuid) RETURNS boolean LANGUAGE plpgsql STABLE"
                body = f"{head} SECURITY DEFINER SET search_path = '' AS $drawn$ {case.body} $drawn$"
                bench.connection.execute(body.encode())
                for number, policy in enumerate(case.policies):
                    bench.connection.execute(_statement(number, policy).encode())
        except psycopg.Error:
            return
        proven = _proven(bench, case)
        for caller in CALLERS if proven else ():
            for clause, what in _leaks(bench, caller, proven):
                pytest.fail(f"{clause} was proven, but {what} as {caller}")


def _settings(examples: int) -> settings:
    checks = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much)
    phases = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=(*checks, HealthCheck.data_too_large), phases=phases
    )


@_settings(200)
@given(case=cases())
def test_nothing_proven_leaks(bench: Bench, case: Case) -> None:
    _check(bench, case)


@pytest.mark.long
@_settings(4_000)
@given(case=cases())
def test_nothing_proven_leaks_at_length(bench: Bench, case: Case) -> None:
    _check(bench, case)


def test_a_planted_hole_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The property has teeth: a prover that takes another column for the tenant's is caught."""
    monkeypatch.setattr(World, "tenant_columns", lambda *_: ("tenant_id", "shared", "owner"))

    @settings(_settings(4000), phases=(Phase.generate,), database=None, report_multiple_bugs=False)
    @given(case=cases())
    def run(case: Case) -> None:
        _check(bench, case)

    with pytest.raises(pytest.fail.Exception, match="was proven, but"):
        run()
