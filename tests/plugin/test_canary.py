"""Canaries as they run in production: a role that reads no row, one that records, and corruption in between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.canary import Level, Reading, Readings
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.plugin.canary import counted_once
from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start
from tests.plugin.conftest import Run
from tests.plugin.test_runs import newest, outcomes

JOBS = """
CREATE ROLE canary_job LOGIN; GRANT tenantproof_auditor TO canary_job;
CREATE ROLE recorder_job LOGIN; GRANT tenantproof_recorder TO recorder_job;
INSERT INTO backup_runs (run, target, started_at, finished_at, outcome, manifest_sha256)
    VALUES ('r', 'prod', now(), now(), 'completed', repeat('0', 64));
INSERT INTO restore_drills (drill, target, run, started_at, finished_at, outcome, manifest_sha256)
    VALUES ('d', 'prod', 'r', now(), now(), 'passed', repeat('0', 64));
"""


def test_readings_are_counted_once_and_read_back_the_same(tmp_path: Path) -> None:
    found = Readings((Reading("TP801", "public.x", 7.5, Level.FAIL, "7 too many"),), {"TP807": "none"}, False)
    calls: list[int] = []

    def count() -> Readings:
        calls.append(1)
        return found

    assert counted_once(tmp_path, count) == (found, True)
    assert counted_once(tmp_path, count) == (found, False)
    assert calls == [1]


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with start(find_bin(18)) as running:
        apply(running.dsn(), migrations_folder())
        load_demo(running.dsn())
        yield running


def test_canaries_are_proven_and_each_corruption_fires_its_own(
    run: Run, server: EmbeddedPostgres, tmp_path: Path
) -> None:
    environment = {
        "TENANTPROOF_PROD_DSN": server.dsn("postgres", user="canary_job"),
        "TENANTPROOF_PROD_WRITER_DSN": server.dsn("postgres", user="recorder_job"),
    }

    def failed(status: int, *more: str) -> set[str]:
        done = run("--evidence=prod", "-m", "canary", *more, **environment)
        assert done.returncode == status, done.stdout[-4000:]
        found: dict[str, Any] = newest(tmp_path, "prod")[1]
        return {name for name, outcome in outcomes(found).items() if outcome not in ("passed", "not_applicable")}

    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(JOBS)
        assert failed(0, "-n", "2") == set()
        admin.execute("ALTER TABLE messages DISABLE ROW LEVEL SECURITY; CREATE ROLE intruder LOGIN BYPASSRLS")
        assert failed(1) == {"TP809", "TP810", "TP812"}
        admin.execute("ALTER TABLE messages ENABLE ROW LEVEL SECURITY; DROP ROLE intruder")
        admin.execute("SET session_replication_role = replica")
        orphan = "UPDATE messages SET unit_id = gen_random_uuid(), created_at = now() WHERE id = ({})"
        admin.execute(orphan.format("SELECT id FROM messages LIMIT 1").encode())
        admin.execute("GRANT SELECT ON messages TO tenantproof_auditor")
        assert failed(1) == {"TP801", "TP809", "TP810", "TP813"}
        rows = admin.execute(
            "SELECT whole, array_agg(DISTINCT recorded_by), count(DISTINCT canary) > 5 FROM canary_runs"
            " GROUP BY run_at, whole ORDER BY run_at"
        ).fetchall()
    # One pass a run, however many workers: the first had two.
    assert rows == [(True, ["recorder_job"], True), (False, ["recorder_job"], True), (False, ["recorder_job"], True)]
