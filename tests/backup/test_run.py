"""A backup holds exactly what the database held, and no more than its target asks for."""

import hashlib
import os
import resource
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from pytest_tenantproof.backup import BackupFailed, copy, find_runs, load_manifest, open_store
from pytest_tenantproof.backup.format import Fingerprint
from pytest_tenantproof.backup.plan import PlannedTable
from tests.backup.support import Scene, contents, copied, seed


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_is_in_the_archive_of_its_tenant(scene: Scene, workers: int) -> None:
    scene.backup = replace(scene.backup, workers=workers)
    result = scene.run()
    store = open_store(scene.store)
    found = contents(store, scene, result.run)
    manifest = load_manifest(store, result.run, scene.keys)
    paths = {
        "public.tenants": "SELECT * FROM tenants WHERE id = '{}'",
        "public.units": "SELECT id, tenant_id, label FROM units WHERE tenant_id = '{}'",
        "public.messages": "SELECT * FROM messages WHERE tenant_id = '{}'",
        "public.notes": "SELECT * FROM notes WHERE tenant_id = '{}'",
        "public.events": "SELECT * FROM events WHERE tenant_id = '{}'",
        "public.attachments": "SELECT a.* FROM attachments a JOIN messages m ON m.id = message_id"
        " WHERE tenant_id = '{}'",
        "public.scans": "SELECT s.* FROM scans s JOIN attachments a ON a.id = attachment_id"
        " JOIN messages m ON m.id = message_id WHERE tenant_id = '{}'",
    }
    assert len(manifest.tenants) == 5
    for tenant, archive in manifest.tenants.items():
        for table, query in paths.items():
            lines = copied(scene.dsn, query.format(tenant))
            assert lines
            assert sorted(found.pop((tenant, table)).splitlines(keepends=True)) == lines
            fingerprint = Fingerprint()
            for line in lines:
                fingerprint.add([line])
            segment = archive.segment(table)
            assert segment is not None
            assert (segment.rows, segment.fingerprint) == (len(lines), fingerprint.hex())
    assert found.pop((None, "public.notes")) == b"\\N\tnobody's\n"
    assert found.pop((None, "public.attachments")) == b"-1\t\\N\tlost\n"
    assert found.pop((None, "public.scans")) == b"-1\t-1\tclean\n"
    assert sorted(found.pop((None, "public.plans")).splitlines()) == copied_lines(scene.dsn, "TABLE plans")
    assert b"CREATE TABLE public.messages" in found.pop((None, "@schema"))
    assert hashlib.sha256(found.pop((None, "@catalog"))).hexdigest() == manifest.catalog_sha256
    assert not found


def copied_lines(dsn: str, query: str) -> list[bytes]:
    return [line.rstrip(b"\n") for line in copied(dsn, query)]


def test_manifest_tells_what_a_restore_needs(scene: Scene) -> None:
    first = scene.run()
    manifest = scene.run().manifest
    names = [t.name for t in manifest.tables]
    assert names.index("public.tenants") < names.index("public.units") < names.index("public.messages")
    assert names.index("public.messages") < names.index("public.attachments") < names.index("public.scans")
    assert "public.events" in names
    assert "public.events_2025" not in names
    assert manifest.table("public.units").columns == ("id", "tenant_id", "label")
    states = {s.name: (s.last_value, s.is_called) for s in manifest.sequences}
    assert states["public.counter"] == (42, True)
    assert states["public.messages_id_seq"] == (300, True)
    assert manifest.source.server_version.startswith("18")
    assert manifest.source.system_identifier.isdigit()
    assert manifest.previous is not None
    assert manifest.previous.run == first.run
    assert manifest.previous.sha256 == first.manifest_sha256
    assert manifest.schema_dump == "pg_dump 18"
    assert [r.name for r in manifest.roles] == ["postgres"]


def test_dry_run_keeps_nothing(scene: Scene) -> None:
    done = []
    result = scene.run(dry_run=True, progress=lambda part, whole: done.append((part, whole)))
    assert result.manifest.rows() > 300
    assert result.stored_bytes > 1000
    assert done[-1][0] == done[-1][1]
    assert not list(open_store(scene.store).list())


def test_a_role_bound_by_row_security_cannot_dump_nothing(scene: Scene, new_database: Callable[[], str]) -> None:
    scene.dsn = new_database()
    with psycopg.connect(scene.dsn, autocommit=True) as admin:
        admin.execute("CREATE TABLE messages(tenant_id int, body text)")
        admin.execute("INSERT INTO messages VALUES (1, 'x')")
        admin.execute("ALTER TABLE messages ENABLE ROW LEVEL SECURITY")
        admin.execute("DROP ROLE IF EXISTS dumper")
        admin.execute("CREATE ROLE dumper LOGIN")
        admin.execute("GRANT SELECT ON messages TO dumper")
    scene.dsn = psycopg.conninfo.make_conninfo(scene.dsn, user="dumper")
    with pytest.raises(BackupFailed, match="InsufficientPrivilege") as caught:
        scene.run()
    assert caught.value.stage == "backup"
    assert "BYPASSRLS" in caught.value.remedy
    assert not find_runs(open_store(scene.store))


def test_two_backups_of_one_database_exclude_each_other(scene: Scene) -> None:
    from pytest_tenantproof.backup.snapshot import hold_snapshot

    with (
        hold_snapshot(scene.dsn, scene.request().settings, "other"),
        pytest.raises(BackupFailed, match="another backup of this database is running"),
    ):
        scene.run()
    assert scene.run().run


def test_a_table_locked_exclusively_is_reported_not_skipped(scene: Scene) -> None:
    scene.backup = replace(scene.backup, lock_timeout_s=1)
    with psycopg.connect(scene.dsn) as holder:
        holder.execute("LOCK TABLE plans IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(BackupFailed, match="55P03"):
            scene.run()


def test_without_recipients_there_is_no_backup(scene: Scene) -> None:
    request = scene.request()
    bare = replace(request.settings, backup=replace(request.settings.backup, recipients=()))
    with pytest.raises(BackupFailed, match="no recipients"):
        scene.run(settings=bare)


def test_rows_written_meanwhile_are_not_in_the_backup(scene: Scene, new_database: Callable[[], str]) -> None:
    scene.dsn = new_database()
    seed(scene.dsn, tenants=2, messages=5)

    def write(part: int, whole: int) -> None:
        with psycopg.connect(scene.dsn, autocommit=True) as other:
            other.execute("INSERT INTO tenants VALUES (gen_random_uuid(), 'new', 'new')")
            other.execute("DELETE FROM scans")

    manifest = scene.run(progress=write).manifest
    assert manifest.table("public.tenants").rows == 2
    assert manifest.table("public.scans").rows > 1


@pytest.mark.long
def test_memory_stays_bounded_whatever_a_tenants_size(scene: Scene, new_database: Callable[[], str]) -> None:
    """400 MB of one tenant, rows of 32 MB among them; the workers are measured."""
    scene.dsn = new_database()
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE tenants(id int PRIMARY KEY)")
        connection.execute("INSERT INTO tenants VALUES (1)")
        connection.execute("CREATE TABLE big(id int, tenant_id int, body text)")
        connection.execute("INSERT INTO big SELECT i, 1, repeat(md5(i::text), 30) FROM generate_series(1, 350000) i")
        connection.execute("INSERT INTO big SELECT i, 1, repeat(md5(i::text), 1000000) FROM generate_series(1, 2) i")
    scene.backup = replace(scene.backup, workers=2)
    assert _memory_of_workers(scene) < 250 * 1024


def _memory_of_workers(scene: Scene) -> int:
    """The most that one of them had, in KiB."""
    told, say = os.pipe()
    child = os.fork()
    if child == 0:
        scene.run()
        os.write(say, str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(say)
    found = int(os.read(told, 100))
    assert found > 0
    return found


def test_memory_stays_bounded_however_many_tenants_share_a_pack(scene: Scene, new_database: Callable[[], str]) -> None:
    """300 MB of 1,000 tenants whose rows are short, so that what each costs besides is felt."""
    scene.dsn = new_database()
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE tenants(id int PRIMARY KEY)")
        connection.execute("INSERT INTO tenants SELECT generate_series(1, 1000)")
        connection.execute("CREATE TABLE small(tenant_id int, body text)")
        connection.execute("INSERT INTO small SELECT 1 + i % 1000, 'short ' || i FROM generate_series(1, 1500000) i")
        connection.execute(
            "INSERT INTO small SELECT 1 + i % 1000, repeat(md5(i::text), 60) FROM generate_series(1, 120000) i"
        )
        connection.execute("ANALYZE")
    scene.backup = replace(scene.backup, workers=2)
    assert _memory_of_workers(scene) < 250 * 1024


@pytest.mark.parametrize("type_", ["character(8)", "boolean", "inet", "varchar(8)", "text", "padded"])
def test_tenants_that_copy_writes_otherwise(scene: Scene, new_database: Callable[[], str], type_: str) -> None:
    scene.dsn = new_database()
    tenants = {"boolean": ("true", "false"), "inet": ("10.0.0.1", "10.1.0.0/16")}.get(type_, ("a", "b\\\tc"))
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        connection.execute("CREATE DOMAIN padded AS character(8)")
        connection.execute(f"CREATE TABLE tenants(id {type_} PRIMARY KEY)".encode())
        connection.execute(f"CREATE TABLE units(label text, tenant_id {type_} REFERENCES tenants)".encode())
        for tenant in tenants:
            connection.execute("INSERT INTO tenants VALUES (%s)", [tenant])
            connection.execute("INSERT INTO units SELECT 'of ' || %s, %s FROM generate_series(1, 3)", [tenant, tenant])
        rows = connection.execute("SELECT DISTINCT tenant_id::text, label FROM units").fetchall()
    labels: dict[str, str] = dict(rows)
    assert len(labels) == 2
    manifest = scene.run().manifest
    found = contents(open_store(scene.store), scene, manifest.run)
    assert set(manifest.tenants) == set(labels)
    for tenant, label in labels.items():
        lines = found[tenant, "public.units"].splitlines()
        assert [line.split(b"\t")[0] for line in lines] == [copy.escaped(label)] * 3


def test_rows_of_many_tenants_that_are_too_many_to_hold(
    scene: Scene, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then each tenant is read by itself: nothing else changes. The server is still sending when that is seen."""
    scene.dsn = new_database()
    seed(scene.dsn)

    def rows() -> dict[tuple[str | None, str], list[bytes]]:
        found = contents(open_store(scene.store), scene, scene.run().run)
        return {key: sorted(text.splitlines()) for key, text in found.items() if not key[1].startswith("@")}

    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO notes SELECT id, repeat('long ', 40000) FROM tenants, generate_series(1, 20)")
    before = rows()
    monkeypatch.setattr(copy, "_HELD", 1000)
    assert rows() == before


def test_a_row_of_nobody_asked_for_ends_a_backup(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_rows(table: PlannedTable, _: object) -> sql.Composed:
        first = f"({table.tenant})::text, " if table.tenant_place < 0 else ""
        return copy._copy(f"SELECT {first}{table.column_list} FROM {table.source}")

    monkeypatch.setattr(copy, "_many", all_rows)
    with pytest.raises(BackupFailed, match="another tenant's row"):
        scene.run()
    assert not list(find_runs(open_store(scene.store)))
