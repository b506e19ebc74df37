"""Probes find what is open, are not fooled by what hides it, and leave nothing behind."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, digest, read_snapshot
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import ProbeError
from pytest_tenantproof.probes import Breach, Probed, joined, of_plain, parts, plain, probe, probe_share
from pytest_tenantproof.probes.matrix import Matrix
from pytest_tenantproof.probes.probed import PREPARED
from pytest_tenantproof.probes.turns import attacking
from pytest_tenantproof.target import EmbeddedPostgres, rolled_back
from tests.probes.schemas import SCHEMAS, ddl, settings
from tests.support import faults_settings, reference_settings

Run = Callable[..., Probed]


@pytest.fixture
def attack(reference_database: str) -> Iterator[Run]:
    """Probes the reference product under a fault that is rolled back."""
    with psycopg.connect(reference_database, autocommit=True) as connection:

        def run(fault: str = "SELECT 1") -> Probed:
            with rolled_back(connection):
                connection.execute(fault.encode())
                return probe(connection, Catalog(read_snapshot(connection), reference_settings()))

        yield run


def operations(probed: Probed) -> set[tuple[str, str]]:
    return {(breach.object, breach.operation) for breach in probed.breaches}


def counts(connection: psycopg.Connection[Any], config: Settings) -> dict[str, int]:
    tables = Catalog(read_snapshot(connection), config).snapshot.tables
    stored = [t.name for t in tables if t.kind in ("table", "partitioned") and not t.name.startswith("pg_")]
    return {name: connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchall()[0][0] for name in stored}


@pytest.mark.parametrize(
    ("name", "config"), [("reference_database", reference_settings()), ("faults_database", faults_settings())]
)
def test_a_closed_product_is_attacked_in_vain_and_left_as_it_was(
    name: str, config: Settings, request: pytest.FixtureRequest
) -> None:
    with psycopg.connect(request.getfixturevalue(name), autocommit=True) as connection:
        before = counts(connection, config), digest(read_snapshot(connection))
        probed = probe(connection, Catalog(read_snapshot(connection), config))
        assert (probed.breaches, probed.problems) == ([], {})
        roots = {table for table in probed.tables if "_20" not in table}
        assert {table for table, _ in probed.permitted} >= roots
        assert (counts(connection, config), digest(read_snapshot(connection))) == before


@pytest.mark.parametrize("name", SCHEMAS)
def test_any_schema_is_filled_and_attacked(
    name: str, postgres: EmbeddedPostgres, new_database: Callable[[], str]
) -> None:
    with psycopg.connect(new_database(), autocommit=True) as connection:
        connection.execute(ddl(name).encode())
        catalog = Catalog(read_snapshot(connection), settings(name))
        probed = probe(connection, catalog)
        assert (probed.breaches, probed.problems) == ([], {})
        missing = {t.name for t in catalog.isolated_tables} - set(probed.tables)
        assert not missing
        assert {table for table, _ in probed.permitted} >= {t for t in probed.tables if not t.endswith("_now")}
        for table in probed.tables:
            with rolled_back(connection):
                connection.execute(f"CREATE POLICY tp_open ON {table} FOR ALL USING (true)".encode())
                found = operations(probe(connection, catalog))
            assert (table, "SELECT") in found, table
            assert (table, "DELETE") in found, table


FAULTS = {
    "CREATE POLICY x ON messages FOR SELECT TO anon USING (true)": ("public.messages", "SELECT"),
    "CREATE POLICY x ON units FOR DELETE TO authenticated USING (true)": ("public.units", "DELETE"),
    "CREATE POLICY x ON tenants FOR DELETE TO authenticated USING (true)": ("public.tenants", "DELETE"),
    "CREATE POLICY x ON units FOR UPDATE TO authenticated USING (true)": ("public.units", "UPDATE"),
    "CREATE POLICY x ON messages FOR INSERT TO authenticated WITH CHECK (true)": ("public.messages", "INSERT"),
    "CREATE POLICY x ON tenant_members FOR INSERT TO authenticated WITH CHECK (user_id = auth.uid())": (
        "public.tenant_members",
        "INSERT",
    ),
    "CREATE POLICY x ON messages FOR UPDATE TO authenticated USING (tenant_id = app.current_tenant_id())"
    " WITH CHECK (true)": ("public.messages", "MOVE"),
    "CREATE POLICY x ON messages FOR SELECT TO authenticated USING (app.current_tenant_id() IS NULL)": (
        "public.messages",
        "SELECT",
    ),
    "CREATE POLICY x ON messages FOR SELECT TO authenticated USING (tenant_id::text ="
    " current_setting('request.jwt.claims', true)::jsonb -> 'user_metadata' ->> 'tenant_id')": (
        "public.messages",
        "SELECT",
    ),
    "CREATE POLICY x ON messages FOR SELECT TO authenticated USING (session_user = 'authenticator')": (
        "public.messages",
        "SELECT",
    ),
    "GRANT TRUNCATE ON messages TO authenticated": ("public.messages", "TRUNCATE"),
    "ALTER TABLE messages DROP CONSTRAINT messages_unit_fk; ALTER TABLE messages ADD CONSTRAINT messages_unit_fk"
    " FOREIGN KEY (unit_id) REFERENCES units (id)": ("public.messages", "ALIGN"),
    "CREATE FUNCTION public.all_messages() RETURNS SETOF messages LANGUAGE sql SECURITY DEFINER SET search_path = ''"
    " AS 'SELECT * FROM public.messages'": ("public.all_messages()", "SELECT"),
    "CREATE VIEW public.leak AS SELECT * FROM messages; GRANT SELECT ON public.leak TO authenticated": (
        "public.leak",
        "SELECT",
    ),
    "CREATE POLICY x ON units FOR SELECT TO anon USING (label IS NOT NULL)": ("public.units", "COPY TO"),
    "ALTER TABLE units DISABLE ROW LEVEL SECURITY": ("public.units", "COPY FROM"),
    "CREATE FUNCTION public.rename(u uuid, l text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = ''"
    " AS 'UPDATE public.units SET label = l WHERE id = u'": ("public.rename(uuid, text)", "UPDATE"),
    "CREATE PROCEDURE public.wipe(t uuid) LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''"
    " AS 'BEGIN DELETE FROM public.messages WHERE tenant_id = t; END'": ("public.wipe(uuid)", "UPDATE"),
    "CREATE FUNCTION public.is_there(u uuid) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = ''"
    " AS 'SELECT EXISTS (SELECT FROM public.units WHERE id = u)'": ("public.is_there(uuid)", "SELECT"),
    "CREATE FUNCTION public.label_of(u uuid) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = ''"
    " AS 'SELECT label FROM public.units WHERE id = u'": ("public.label_of(uuid)", "SELECT"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_named(fault: str, attack: Run) -> None:
    assert FAULTS[fault] in operations(attack(fault))


def test_a_member_of_two_tenants_sees_both_and_no_third(new_database: Callable[[], str]) -> None:
    """Also where the hole is open to such a user alone."""
    with psycopg.connect(new_database(), autocommit=True) as connection:
        connection.execute(ddl("members").encode())
        catalog = Catalog(read_snapshot(connection), settings("members"))
        with attacking(connection):
            stage = Matrix(connection, catalog, superuser=True).stage
            both = next(i for i in stage.identities if i.name.endswith("member of tenant A and tenant C, in tenant A"))
            connection.execute(both.become.encode())
            seen = {str(row[0]) for row in connection.execute("SELECT org_id FROM public.tasks")}
        assert (seen, stage.b.id in seen) == (set(both.tenants), False)
        for fault, expected in (("SELECT 1", set()), (_MANY, {"authenticated, member of tenant A and tenant C, in "})):
            with rolled_back(connection):
                connection.execute(fault.encode())
                breaches = probe(connection, Catalog(read_snapshot(connection), settings("members"))).breaches
            assert {b.identity.name.partition("in tenant")[0] + "in " for b in breaches} == expected


_MANY = """CREATE POLICY x ON tasks FOR SELECT TO authenticated USING
    ((SELECT count(*) FROM public.members m WHERE m.user_id = auth.uid()) > 1)"""


HARMLESS = {
    "rename": "CREATE FUNCTION public.rename(u uuid, l text) RETURNS void LANGUAGE sql SET search_path = ''"
    " AS 'UPDATE public.units SET label = l WHERE id = u'",
    "yes or no": "CREATE FUNCTION public.is_there(u uuid) RETURNS boolean LANGUAGE sql SET search_path = ''"
    " AS 'SELECT EXISTS (SELECT FROM public.units WHERE id = u)'",
    "a policy that asks for more": "CREATE POLICY x ON units AS RESTRICTIVE FOR"
    " SELECT TO authenticated USING (label LIKE 'A%' OR label LIKE 'B%')",
    "a format": "CREATE FUNCTION public.is_uuid(t text) RETURNS boolean LANGUAGE sql SET search_path = ''"
    " AS $$ SELECT t ~ '^[0-9a-f-]{36}$' $$",
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_is_harmless_stays_green(change: str, attack: Run) -> None:
    probed = attack(HARMLESS[change])
    assert (probed.breaches, probed.problems) == ([], {})


def test_what_is_only_hidden_is_found_and_said_to_be(attack: Run) -> None:
    """No grant, a foreign key and a trigger stand before the open policies: none of them is isolation."""
    probed = attack(
        "REVOKE ALL ON units FROM authenticated; CREATE POLICY x ON units FOR ALL TO authenticated USING (true)"
    )
    found = {b.operation: b.detail for b in probed.breaches if b.object == "public.units"}
    assert {"SELECT", "UPDATE", "DELETE", "INSERT"} <= set(found)
    assert "only the missing DELETE privilege hides it" in found["DELETE"]


def test_a_breach_comes_with_a_script_that_shows_it(attack: Run, reference_database: str) -> None:
    fault = "CREATE POLICY x ON messages FOR SELECT TO authenticated USING (true)"
    breach: Breach = next(b for b in attack(fault).breaches if "of tenant A" in b.identity.name)
    with psycopg.connect(reference_database, autocommit=True) as connection:
        for applied, expected in ((fault, 1), ("SELECT 1", 0)):
            script = breach.script.replace("BEGIN;", f"BEGIN; {applied};", 1).removesuffix("ROLLBACK;")
            cursor = connection.execute(script.encode())
            while cursor.nextset():
                continue
            assert cursor.fetchall() == [(bool(expected),)]
            connection.execute("ROLLBACK")


def test_a_table_without_a_possible_row_is_a_problem(attack: Run) -> None:
    probed = attack(
        "ALTER TABLE messages ADD CONSTRAINT never CHECK (body = upper(body) AND body <> upper(body)) NOT VALID"
    )
    assert "never" in probed.problems["public.messages"]


def test_a_time_out_is_no_refusal(attack: Run) -> None:
    probed = attack(
        "CREATE FUNCTION app.slow() RETURNS boolean LANGUAGE plpgsql STABLE AS"
        " 'BEGIN RAISE EXCEPTION USING ERRCODE = ''57014''; END';"
        "GRANT EXECUTE ON FUNCTION app.slow() TO authenticated;"
        "CREATE POLICY x ON units AS RESTRICTIVE FOR SELECT TO authenticated USING (app.slow())"
    )
    assert "57014" in probed.problems["public.units"]


def test_triggers_that_reach_out_are_silenced(attack: Run) -> None:
    probed = attack(
        "CREATE FUNCTION app.tell() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM dblink_exec(''x'', ''y''); RETURN new; END';"
        "CREATE TRIGGER tell AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION app.tell()"
    )
    assert probed.silenced == ["public.messages tell"]
    assert probed.problems == {}


def test_a_refusal_by_a_function_is_not_row_securitys(attack: Run) -> None:
    """The policy is wide open, and only a missing EXECUTE stands before it: 42501 as well."""
    probed = attack(
        "CREATE FUNCTION app.closed() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';"
        "REVOKE EXECUTE ON FUNCTION app.closed() FROM PUBLIC;"
        "CREATE POLICY x ON units FOR SELECT TO authenticated USING (app.closed())"
    )
    assert "42501" in probed.problems["public.units"]


def test_attacks_without_a_lawful_user_prove_nothing(attack: Run) -> None:
    """Nobody can bind a tenant any more: everything is refused, and that is no isolation."""
    probed = attack(
        "CREATE OR REPLACE FUNCTION app.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE SET search_path = '' AS"
        " 'SELECT NULL::uuid'"
    )
    assert probed.breaches == []
    assert "own user" in probed.problems["public.units"]


def test_a_setting_that_anybody_may_set_is_tried(attack: Run) -> None:
    probed = attack(
        "CREATE POLICY x ON units FOR SELECT TO authenticated"
        " USING (tenant_id = nullif(current_setting('app.debug_tenant', true), '')::uuid)"
    )
    found = {b.identity.name for b in probed.breaches if b.object == "public.units"}
    assert "authenticated of tenant A that sets app.debug_tenant" in found


def test_rows_that_were_there_before_are_asked_for(attack: Run) -> None:
    """The fresh tenants are hidden from each other; those of last year are not."""
    probed = attack(
        "CREATE POLICY x ON units FOR SELECT TO authenticated"
        " USING (tenant_id IN (SELECT md5('tenant' || n)::uuid FROM generate_series(1, 4) n))"
    )
    assert ("public.units", "SELECT") in operations(probed)


def together(dsn: str, config: Settings, take: Iterator[int], workers: int = 2) -> list[dict[int, Probed]]:
    """The attack by several sessions at once, each taking the next part when it is ready."""
    lock = Lock()

    def mine() -> Iterator[int]:
        while True:
            with lock:
                number = next(take, None)
            if number is None:
                return
            yield number

    def work(_: int) -> dict[int, Probed]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            return probe_share(connection, Catalog(read_snapshot(connection), config), mine())

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, range(workers)))


@pytest.mark.parametrize("fault", ["SELECT 1", "CREATE POLICY x ON tasks TO authenticated USING (true)"])
def test_workers_share_the_attack_and_the_result_is_one_workers(fault: str, new_database: Callable[[], str]) -> None:
    """Side by side they wait for no lock of each other's, and what each did is put together in a fixed order."""
    dsn, config = new_database(), settings("members")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"{ddl('members')}; {fault}".encode())
        catalog = Catalog(read_snapshot(connection), config)
        whole = probe(connection, catalog)
    shares = together(dsn, config, iter(range(len(parts(catalog)))))
    assert all(len(share) > 1 for share in shares), "one worker did everything"
    told = [{n: of_plain(json.loads(json.dumps(plain(part)))) for n, part in share.items()} for share in shares]
    done = joined(len(parts(catalog)), told)
    assert bool(done.breaches) == (fault != "SELECT 1")
    assert [(b.object, b.operation, b.detail) for b in done.breaches] == [
        (b.object, b.operation, b.detail) for b in whole.breaches
    ]
    assert (done.problems, done.attempts, done.tables, done.permitted) == (
        whole.problems,
        whole.attempts,
        whole.tables,
        whole.permitted,
    )


def test_a_part_that_a_dead_worker_took_is_missed(reference_database: str) -> None:
    config = reference_settings()
    with psycopg.connect(reference_database, autocommit=True) as connection:
        wanted = len(parts(Catalog(read_snapshot(connection), config)))
    shares = together(reference_database, config, iter([n for n in range(wanted) if n != 3]))
    with pytest.raises(ProbeError, match=f"part 4 of {wanted} "):
        joined(wanted, shares)


def test_what_met_a_lock_is_attacked_again_in_turn(reference_database: str) -> None:
    """A session that holds a lock for a while makes no table look closed, and none unattackable."""
    config, wanted = reference_settings(), [0, 1, 2, 3]
    with psycopg.connect(reference_database, autocommit=True) as other:
        other.execute("BEGIN; LOCK TABLE units IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(together, reference_database, config, iter(wanted), 1)
            time.sleep(3)
            other.execute("ROLLBACK")
            (share,) = future.result()
    assert set(share) == {PREPARED, *wanted}
    assert [part.problems for part in share.values() if part.problems] == []


def test_triggers_that_reach_out_make_workers_take_turns(new_database: Callable[[], str]) -> None:
    """They are disabled by ALTER TABLE, which would wait for the other worker's rows."""
    dsn, config = new_database(), settings("members")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(ddl("members").encode())
        connection.execute(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NOTIFY x; RETURN new; END';"
            "CREATE TRIGGER tell AFTER INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION tell()"
        )
        wanted = len(parts(Catalog(read_snapshot(connection), config)))
    done = joined(wanted, together(dsn, config, iter(range(wanted))))
    assert (done.breaches, done.problems, done.silenced) == ([], {}, ["public.tasks tell"])
