"""A restore brings back exactly what was backed up, or leaves everything as it was."""

import psycopg
import pytest

from pytest_tenantproof.errors import RestoreError
from tests.restore.support import Stage, content


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_comes_back(stage: Stage, workers: int) -> None:
    from dataclasses import replace

    settings = stage.settings()
    settings = replace(settings, backup=replace(settings.backup, workers=workers))
    done: list[tuple[int, int]] = []
    result = stage.restore(settings=settings, progress=lambda part, whole: done.append((part, whole)))
    assert content(stage.dsn) == content(stage.scene.dsn)
    assert result.rebuilt is not None
    assert result.rebuilt.rows == result.manifest.rows()
    assert done[-1][0] == done[-1][1]
    with psycopg.connect(stage.dsn, autocommit=True) as restored:
        one = restored.execute(
            "SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM sizes), (SELECT count(*) FROM busy),"
            " nextval('counter'), nextval('messages_id_seq'),"
            " (SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND NOT convalidated),"
            " (SELECT string_agg(tgenabled::text, '') FROM pg_trigger WHERE NOT tgisinternal),"
            " (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname = 'units'),"
            " (SELECT loud FROM units WHERE label = 'unit 1' LIMIT 1)"
        ).fetchone()
    assert one == (0, 5, 5, 43, 301, 0, "A", True, "UNIT 1")
    assert stage.databases() == ["postgres", "staging"]


def test_a_second_restore_replaces_the_first(stage: Stage) -> None:
    """The copy of production that the first left is known as a copy."""
    stage.restore()
    with psycopg.connect(stage.dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM scans")
    stage.restore()
    assert content(stage.dsn) == content(stage.scene.dsn)


def test_dry_run_changes_nothing(stage: Stage) -> None:
    before = content(stage.dsn)
    assert stage.restore(dry_run=True).rebuilt is None
    assert content(stage.dsn) == before


def test_sessions_in_the_old_database_are_ended(stage: Stage) -> None:
    with psycopg.connect(stage.dsn) as user:
        stage.restore()
        with pytest.raises(psycopg.OperationalError):
            user.execute("SELECT 1")
    assert stage.databases() == ["postgres", "staging"]


def test_a_database_that_is_not_there_is_made(stage: Stage) -> None:
    stage.database = "fresh"
    try:
        stage.restore()
        assert content(stage.dsn) == content(stage.scene.dsn)
    finally:
        with psycopg.connect(stage.server.dsn(), autocommit=True) as admin:
            admin.execute("DROP DATABASE IF EXISTS fresh WITH (FORCE)")


def test_privileges_and_settings_of_the_database_stay(stage: Stage) -> None:
    with psycopg.connect(stage.dsn, autocommit=True) as admin:
        admin.execute("REVOKE ALL ON DATABASE staging FROM PUBLIC")
        admin.execute("ALTER DATABASE staging SET search_path = '$user', public, \"odd name\"")
    stage.restore()
    with psycopg.connect(stage.dsn) as connection:
        row = connection.execute(
            "SELECT has_database_privilege('reader_1', 'staging', 'CONNECT'), current_setting('search_path')"
        ).fetchone()
    assert row == (False, '"$user", public, "odd name"')


def test_another_restore_is_waited_out(stage: Stage) -> None:
    from pytest_tenantproof.backup.restore.place import open_place

    with open_place(stage.dsn), pytest.raises(RestoreError, match="another restore is running"):
        stage.restore()
