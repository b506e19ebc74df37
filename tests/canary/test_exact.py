"""For each canary a damage that makes it warn or fail: exactly that one, and what rightly goes with it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.canary import Level, Readings, measure
from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.config.canary import CanarySettings
from pytest_tenantproof.controls.judge import functions, judge
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import TargetInfo, rolled_back
from tests.support import reference_settings

PROD = TargetInfo("prod", "live", "18", "app", "1", "canary_job", True, "")
CANARIES = tuple(i for i in functions() if i.startswith("TP8"))
KEPT = """
INSERT INTO backup_runs (run, target, started_at, finished_at, outcome, manifest_sha256)
    VALUES ('r', 'prod', now() - interval '{backup}', now() - interval '{backup}', 'completed', repeat('0', 64));
INSERT INTO restore_drills (drill, target, run, started_at, finished_at, outcome, manifest_sha256)
    VALUES ('d', 'prod', 'r', now() - interval '{drill}', now() - interval '{drill}', 'passed', repeat('0', 64));
"""
REPLICA = "SET LOCAL session_replication_role = replica; {}; SET LOCAL session_replication_role = origin"
FAILED = (
    "INSERT INTO onboarding_transactions (id, tenant_id, status, error, started_at) SELECT gen_random_uuid(),"
    " (SELECT id FROM tenants LIMIT 1), 'failed', 'x', now() FROM generate_series(1, {})"
)
EVENT = (
    "INSERT INTO audit_events (at, tenant_id, actor, actor_source, database_role, table_schema, table_name, operation,"
    " row_count, key_columns) SELECT now() - make_interval(weeks => week, mins => 5), (SELECT id FROM tenants ORDER BY"
    " slug OFFSET {tenant} LIMIT 1), 'x', 'role', 'x', 'public', '{table}', '{operation}', nullif(deleted, -1),"
    " '{{id}}'"
    " FROM unnest('{{{weeks}}}'::int[]) WITH ORDINALITY AS u (deleted, n), LATERAL (SELECT n::int - 1 AS week) w"
)


def lost(*weeks: int, tenant: int = 0, table: str = "messages", operation: str = "DELETE") -> str:
    """Deletions of a tenant: just now, and at this hour one week ago, two, three and four."""
    rows = ",".join(map(str, weeks))
    return EVENT.format(tenant=tenant, table=table, operation=operation, weeks=rows)


@dataclass(frozen=True)
class Damage:
    sql: str
    alarms: dict[str, str]
    objects: frozenset[str] = frozenset()
    backup: str = "1 hour"
    drill: str = "1 hour"


CHANGED = {"TP809": "fail"}
RIGHTS = {"TP809": "fail", "TP810": "fail"}
DAMAGES = {
    "none": Damage("SELECT 1", {}),
    "orphan message": Damage(
        REPLICA.format("UPDATE messages SET unit_id = gen_random_uuid() WHERE id = (SELECT id FROM messages LIMIT 1)"),
        {"TP801": "fail"},
        frozenset({"public.messages.unit_id"}),
    ),
    "orphan unit": Damage(
        REPLICA.format(
            "INSERT INTO units (tenant_id, development_id, label) SELECT id, gen_random_uuid(), 'x'"
            " FROM tenants LIMIT 1"
        ),
        {"TP801": "fail"},
        frozenset({"public.units.development_id"}),
    ),
    "orphan development": Damage(
        REPLICA.format("INSERT INTO developments (tenant_id, name) VALUES (gen_random_uuid(), 'x')"),
        {"TP801": "fail"},
        frozenset({"public.developments.tenant_id"}),
    ),
    "misaligned unit": Damage(
        REPLICA.format(
            "INSERT INTO units (tenant_id, development_id, label) SELECT t.id, d.id, 'x' FROM developments d"
            " JOIN tenants t ON t.id <> d.tenant_id LIMIT 1"
        ),
        {"TP802": "fail"},
        frozenset({"public.units.development_id"}),
    ),
    "no tenant": Damage(
        "ALTER TABLE onboarding_transactions DISABLE TRIGGER USER, ALTER tenant_id DROP NOT NULL;"
        + REPLICA.format(
            "INSERT INTO onboarding_transactions (id, status, started_at) SELECT gen_random_uuid(), 'done', now()"
        ),
        {"TP803": "fail", **CHANGED},
        frozenset({"public.onboarding_transactions", "catalog"}),
    ),
    "one failed onboarding": Damage(FAILED.format(1), {"TP804": "warn"}),
    "four failed onboardings": Damage(FAILED.format(4), {"TP804": "warn"}),
    "five failed onboardings": Damage(FAILED.format(5), {"TP804": "fail"}),
    "many deletions": Damage(lost(500), {"TP805": "fail"}, frozenset({"public.messages"})),
    "more deletions": Damage(lost(320, 200, 200, 200, 200), {"TP805": "warn"}),
    "writes without an event": Damage(
        "INSERT INTO canary_runs (run_at, target, whole, canary, object, value, level)"
        " SELECT now() + interval '5 minutes', 'prod', true, 'TP806', 'public.' || relname,"
        " n_tup_ins + n_tup_upd + n_tup_del - CASE relname WHEN 'messages' THEN 3 ELSE 0 END, 'ok'"
        " FROM pg_stat_user_tables WHERE schemaname = 'public'",
        {"TP806": "warn"},
    ),
    "backup of yesterday": Damage("SELECT 1", {"TP807": "warn"}, backup="27 hours"),
    "backup of last week": Damage("SELECT 1", {"TP807": "fail"}, backup="7 days"),
    "drill of yesterday": Damage("SELECT 1", {"TP808": "warn"}, drill="31 hours"),
    "drill of last week": Damage("SELECT 1", {"TP808": "fail"}, drill="7 days"),
    "new column": Damage("ALTER TABLE messages ADD COLUMN more text", CHANGED, frozenset({"catalog"})),
    "new role": Damage("CREATE ROLE intruder", RIGHTS, frozenset({"catalog", "catalog.roles"})),
    "new grant": Damage("GRANT SELECT ON backup_runs TO app_scoped", RIGHTS, frozenset({"catalog", "catalog.grants"})),
    "new policy": Damage(
        "CREATE POLICY more ON messages AS RESTRICTIVE FOR SELECT USING (true)",
        RIGHTS,
        frozenset({"catalog", "catalog.policies"}),
    ),
    "row security off": Damage(
        "ALTER TABLE units DISABLE ROW LEVEL SECURITY",
        {"TP812": "fail", **RIGHTS},
        frozenset({"public.units", "catalog", "catalog.policies"}),
    ),
    "auditor reads": Damage(
        "GRANT SELECT ON messages TO tenantproof_auditor",
        {"TP813": "fail", **RIGHTS},
        frozenset({"public.messages", "catalog", "catalog.grants"}),
    ),
}


@pytest.fixture
def connection(reference_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(reference_database, autocommit=True) as found, rolled_back(found):
        yield found


class Watch:
    """The canaries of a target whose last evidence is of the catalog as it is now."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.before = Catalog(read_snapshot(connection), reference_settings())
        self.last = {"catalog": self.before.sha256, **self.before.parts_sha256}
        self.readings = Readings()
        self.objects: set[str] = set()

    def look(self) -> dict[str, str]:
        """What each canary says that is not green."""
        catalog = Catalog(read_snapshot(self.connection), reference_settings())
        with self.connection.transaction(force_rollback=True):
            self.connection.execute("SET LOCAL ROLE tenantproof_auditor")
            self.readings = measure(self.connection, catalog, self.before, "prod")
        given = {"readings": self.readings, "target": PROD, "last_digests": self.last}
        results = [judge(i, catalog, **given) for i in CANARIES]
        self.objects = {f.object for r in results for f in r.findings}
        warned = {
            r.control: "warn" for r in results if r.outcome is Outcome.PASSED and r.reason.startswith("warning: ")
        }
        words = {Outcome.FAILED: "fail", Outcome.NOT_RUN: "not run", Outcome.ERROR: "error"}
        return warned | {r.control: words[r.outcome] for r in results if r.outcome in words}


def test_every_canary_has_its_damage() -> None:
    assert {i for damage in DAMAGES.values() for i in damage.alarms} | {"TP811"} == set(CANARIES)


@pytest.mark.parametrize("name", DAMAGES)
def test_exactly_its_canary_fires(name: str, connection: psycopg.Connection[Any]) -> None:
    damage = DAMAGES[name]
    connection.execute(KEPT.format(backup=damage.backup, drill=damage.drill).encode())
    watch = Watch(connection)
    connection.execute(damage.sql.encode())
    assert watch.look() == damage.alarms
    assert watch.objects == damage.objects or not damage.objects


@pytest.mark.parametrize(
    ("limits", "said"),
    [(CanarySettings(idle_warn_s=0.05), "warn"), (CanarySettings(idle_warn_s=0.05, idle_fail_s=0.06), "fail")],
)
def test_an_idle_transaction_is_the_one_thing_said(
    connection: psycopg.Connection[Any], reference_database: str, limits: CanarySettings, said: str
) -> None:
    connection.execute(KEPT.format(backup="1 hour", drill="1 hour").encode())
    watch = Watch(connection)
    lower = replace(reference_settings(), canary=limits)
    with psycopg.connect(reference_database, autocommit=True) as idle, contextlib.ExitStack() as stack:
        stack.callback(idle.execute, "ROLLBACK")
        idle.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM messages")
        connection.execute("SELECT pg_sleep(0.1)")
        catalog = Catalog(watch.before.snapshot, lower)
        readings = measure(connection, catalog, watch.before, "prod")
    assert {(r.canary, str(r.level)) for r in readings.taken if r.level is not Level.OK} == {("TP811", said)}
    assert readings.problems == {}


SLOW = "CREATE OR REPLACE FUNCTION tenantproof.{} LANGUAGE {} AS $$ {} $$"


@pytest.mark.parametrize(
    ("function", "silent"),
    [
        ("oldest_idle_seconds() RETURNS double precision", {"TP811"}),
        ("last_backup_hours(target_name text) RETURNS double precision", {"TP807"}),
        ("count_strays(child regclass, child_columns name[], parent regclass, parent_columns name[],"
         " since_column name DEFAULT NULL, since timestamptz DEFAULT NULL) RETURNS bigint", {"TP801", "TP802"}),
    ],
)  # fmt: skip
def test_one_that_takes_too_long_is_not_passed_and_stops_no_other(
    connection: psycopg.Connection[Any], function: str, silent: set[str]
) -> None:
    connection.execute(KEPT.format(backup="7 days", drill="1 hour").encode())
    body = "DECLARE n int; BEGIN PERFORM pg_sleep(9); RETURN 0; END"
    connection.execute(SLOW.format(function, "plpgsql", body).encode())
    watch = Watch(connection)
    connection.execute("SET LOCAL statement_timeout = '700ms'")
    said = watch.look()
    others = {} if "TP807" in silent else {"TP807": "fail"}  # another one still fires
    assert said == dict.fromkeys(silent, "not run") | others
    assert {watch.readings.problems[i] for i in silent} == {"counting took longer than the session's statement_timeout"}
    assert not [r for r in watch.readings.taken if r.canary in silent]
    assert not watch.readings.whole or watch.readings.problems


@pytest.mark.parametrize(
    ("events", "levels"),
    [
        ([lost(500, 0, 0, 5000, 0)], ["fail"]),  # one bad week moves neither the median nor the spread
        ([lost(500, 480, 520, 450, 550)], ["ok"]),
        ([lost(99)], ["ok"]),  # below the floor nothing is abnormal
        ([lost(100)], ["fail"]),
        ([lost(399, 200, 200, 200, 200)], ["warn"]),
        ([lost(400, 200, 200, 200, 200)], ["fail"]),
        ([lost(500, tenant=0), lost(500, 500, 500, 500, 500, tenant=1)], ["fail", "ok"]),  # by tenant
        ([lost(500, table="units"), lost(500, 500, 500, 500, 500)], ["fail", "ok"]),  # by table
        ([lost(60), lost(60)], ["fail"]),  # many small ones add up
        ([lost(-1, operation="TRUNCATE")], ["fail"]),
        ([lost(-1, -1, -1, -1, -1, operation="TRUNCATE")], ["ok"]),  # as every week
        ([lost(0, 500, 500, 500, 500)], ["ok"]),
    ],
)
def test_deletions_by_tenant_and_table(
    connection: psycopg.Connection[Any], events: list[str], levels: list[str]
) -> None:
    connection.execute(KEPT.format(backup="1 hour", drill="1 hour").encode())
    watch = Watch(connection)
    for event in events:
        connection.execute(event.encode())
    said = watch.look()
    found = list(watch.readings.of("TP805"))
    assert sorted(str(r.level) for r in found) == levels
    worst = next((level for level in ("fail", "warn") if level in levels), "")
    assert said == ({"TP805": worst} if worst else {})
    if "TRUNCATE" in events[0] and worst:
        assert "every tenant lost all rows" in found[0].detail
