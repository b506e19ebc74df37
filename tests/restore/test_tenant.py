"""One tenant comes back beside others, and nobody else's rows are touched."""

import subprocess
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.backup.restore import open_source
from pytest_tenantproof.backup.restore.run import run_tenant_restore
from pytest_tenantproof.backup.restore.tenant import TableDiff, export_tenant
from pytest_tenantproof.errors import RestoreError
from tests.restore.support import Stage, content


def first(stage: Stage) -> str:
    with psycopg.connect(stage.scene.dsn) as connection:
        row = connection.execute("SELECT id::text FROM tenants ORDER BY slug LIMIT 1").fetchone()
    assert row is not None
    return str(row[0])


def test_missing_rows_come_back(stage: Stage) -> None:
    stage.restore()
    tenant = first(stage)
    with psycopg.connect(stage.dsn, autocommit=True) as staging:
        staging.execute("DELETE FROM scans; DELETE FROM attachments")
        staging.execute("DELETE FROM messages WHERE tenant_id = %s", [tenant])
        staging.execute("DELETE FROM notes WHERE tenant_id = %s", [tenant])
        staging.execute("UPDATE units SET label = 'changed' WHERE tenant_id = %s AND label = 'unit 1'", [tenant])
        staging.execute("INSERT INTO events VALUES (999, %s, '2025-03-03')", [tenant])
    before = content(stage.dsn)
    wanted = {
        TableDiff("public.units", 0, 1, 0),
        TableDiff("public.messages", 60, 0, 0),
        TableDiff("public.attachments", 20, 0, 0),
        TableDiff("public.scans", 20, 0, 0),
        TableDiff("public.notes", 1, 0, 0),
        TableDiff("public.events", 0, 0, 1),
    }
    assert set(run_tenant_restore(stage.request(dry_run=True), tenant)) == wanted
    assert content(stage.dsn) == before
    assert set(run_tenant_restore(stage.request(), tenant)) == wanted
    with psycopg.connect(stage.dsn) as staging:
        row = staging.execute(
            "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM scans), (SELECT count(*) FROM audit),"
            " (SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'log_it')"
        ).fetchone()
    assert row == (300, 20, 0, "A")
    left = {TableDiff("public.units", 0, 1, 0), TableDiff("public.events", 0, 0, 1)}
    assert set(run_tenant_restore(stage.request(), tenant)) == left


def test_changed_rows_are_put_back(stage: Stage) -> None:
    """What differs becomes what it was, triggers stay still, and surplus rows stay."""
    stage.restore()
    tenant, before = first(stage), content(stage.dsn)
    with psycopg.connect(stage.dsn, autocommit=True) as staging:
        staging.execute("UPDATE messages SET body = 'gone' WHERE tenant_id = %s", [tenant])
        staging.execute("UPDATE scans SET verdict = 'bad'")
        staging.execute("UPDATE tenants SET slug = slug || 'x' WHERE id = %s", [tenant])
        staging.execute("INSERT INTO events VALUES (999, %s, '2025-03-03')", [tenant])
    wanted = {
        TableDiff("public.tenants", 0, 1, 0),
        TableDiff("public.messages", 0, 60, 0),
        TableDiff("public.scans", 0, 20, 0),
        TableDiff("public.events", 0, 0, 1),
    }
    changed = content(stage.dsn)
    assert set(run_tenant_restore(stage.request(dry_run=True, put_back=True), tenant)) == wanted
    assert content(stage.dsn) == changed
    assert set(run_tenant_restore(stage.request(put_back=True), tenant)) == wanted
    assert set(run_tenant_restore(stage.request(), tenant)) == {TableDiff("public.events", 0, 0, 1)}
    after = content(stage.dsn)
    assert {t for t in after if after[t] != before[t]} == {"public.events", "public.events_2025", "public.scans"}
    with psycopg.connect(stage.dsn) as staging:
        row = staging.execute("SELECT count(*) FROM scans WHERE verdict = 'bad'").fetchone()
    assert row == (81,), "those of others are as somebody made them"


def test_a_row_that_is_another_tenants_by_now_is_not_taken_back(stage: Stage) -> None:
    stage.restore()
    tenant = first(stage)
    with psycopg.connect(stage.dsn, autocommit=True) as staging:
        staging.execute("UPDATE notes SET body = 'changed' WHERE tenant_id = %s", [tenant])
        staging.execute(
            "UPDATE events SET tenant_id = (SELECT id FROM tenants WHERE id <> %s LIMIT 1)"
            " WHERE (id, at) = (SELECT id, at FROM events WHERE tenant_id = %s LIMIT 1)",
            [tenant, tenant],
        )
    before = content(stage.dsn)
    with pytest.raises(RestoreError, match="another tenant's now"):
        run_tenant_restore(stage.request(put_back=True), tenant)
    assert content(stage.dsn) == before


def test_rows_that_cannot_hold_change_nothing(stage: Stage) -> None:
    """A constraint that staging has by now, and that a row of the backup breaks."""
    stage.restore()
    tenant = first(stage)
    with psycopg.connect(stage.dsn, autocommit=True) as staging:
        staging.execute("DELETE FROM notes WHERE tenant_id = %s", [tenant])
        staging.execute("ALTER TABLE notes ADD CHECK (body <> 'note') NOT VALID")
    before = content(stage.dsn)
    with pytest.raises(RestoreError, match="CheckViolation"):
        run_tenant_restore(stage.request(), tenant)
    assert content(stage.dsn) == before


def test_the_guard_holds_for_one_tenant_too(stage: Stage) -> None:
    with pytest.raises(RestoreError, match="not marked restorable"):
        run_tenant_restore(stage.request(target="closed"), first(stage))
    with pytest.raises(RestoreError, match="the very one"):
        run_tenant_restore(stage.request(dsn=stage.scene.dsn), first(stage))


def test_a_tenant_that_is_not_in_the_backup(stage: Stage) -> None:
    stage.restore()
    with pytest.raises(RestoreError, match="holds no tenant"):
        run_tenant_restore(stage.request(), "nobody")


def test_a_script_for_review(stage: Stage, tmp_path: Path) -> None:
    stage.restore()
    tenant, request, out = first(stage), stage.request(), tmp_path / "tenant.sql"
    source = open_source(request.store, request.key_store, request.run, request.trusted, request.pair)
    assert export_tenant(source, tenant, out) > 60
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(RestoreError, match="cannot be made"):
        export_tenant(source, tenant, out)
    before = content(stage.dsn)
    with psycopg.connect(stage.dsn, autocommit=True) as staging:
        staging.execute("ALTER TABLE messages DISABLE TRIGGER log_it")
        staging.execute("DELETE FROM scans WHERE id > 0; DELETE FROM attachments WHERE id > 0; DELETE FROM messages")
        for table in ("units", "notes", "events"):
            staging.execute(f"DELETE FROM {table} WHERE tenant_id = %s".encode(), [tenant])
        staging.execute("DELETE FROM tenants WHERE id = %s", [tenant])
    psql = stage.server.bin.path / "psql"
    command: list[str | Path] = [
        psql,
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "--single-transaction",
        "-f",
        out,
        stage.dsn,
    ]
    subprocess.run(command, check=True, capture_output=True)
    after = content(stage.dsn)
    assert [after[t] == before[t] for t in ("public.tenants", "public.units", "public.notes")] == [True] * 3
