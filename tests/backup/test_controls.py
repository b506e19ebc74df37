"""The 6xx controls on real stores: green on a good backup, red on each thing that can be wrong with it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.backup import open_store
from pytest_tenantproof.backup.inspect import Backups
from pytest_tenantproof.backup.manifest import manifest_name
from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls._faulty import LIVE
from pytest_tenantproof.controls.judge import judge
from tests.backup.support import Scene, seed

OK, RED, NOT_RUN = "passed", "failed", "not_run"


@pytest.fixture
def outcome(scene: Scene, new_database: Callable[[], str], tmp_path: Path) -> Callable[..., str]:
    """The outcome of a control on the scene's backups, as an evidence run would find it."""
    scene.dsn = new_database()
    seed(scene.dsn, tenants=2, messages=2)

    def judged(control: str, **backup: object) -> str:
        asked = scene.request().settings
        asked = replace(
            asked,
            root=tmp_path,
            backup=replace(
                asked.backup,
                recipients=(scene.reader.recipient.text,),
                escrow=(scene.escrow.recipient.text,),
                **backup,  # type: ignore[arg-type]
            ),
        )
        store = open_store(scene.store)
        found = Backups(asked, "prod", store, store, scene.keys, scene.dsn)
        with psycopg.connect(scene.dsn, autocommit=True) as connection:
            catalog = Catalog(read_snapshot(connection), asked)
        settings = replace(asked, targets={"prod": asked.target("embedded")})
        return str(judge(control, catalog, backups=replace(found, settings=settings), target=LIVE).outcome)

    return judged


def test_without_a_backup_only_its_absence_is_a_failure(outcome: Callable[..., str]) -> None:
    assert outcome("TP601") == RED
    assert outcome("TP602") == NOT_RUN
    assert outcome("TP609") == NOT_RUN


def test_a_good_backup_in_a_folder_is_green_but_for_where_it_is(scene: Scene, outcome: Callable[..., str]) -> None:
    scene.run()
    assert {i: outcome(i) for i in ("TP601", "TP602", "TP603", "TP607", "TP608", "TP609")} == dict.fromkeys(
        ("TP601", "TP602", "TP603", "TP607", "TP608", "TP609"), OK
    )
    for control in ("TP604", "TP605", "TP606"):
        assert outcome(control) == RED


def test_an_old_or_forged_or_incomplete_backup_is_red(scene: Scene, outcome: Callable[..., str]) -> None:
    run = scene.run().run
    store = open_store(scene.store)
    assert outcome("TP601", max_age_hours=0.0) == RED
    body = b"".join(store.read(manifest_name(run)))
    store.put(manifest_name(run), body.replace(b"A", b"B", 1), replace=True)
    assert (outcome("TP601"), outcome("TP602")) == (RED, RED)
    store.put(manifest_name(run), body, replace=True)
    store.delete(f"runs/{run}/schema.tpb")
    assert (outcome("TP601"), outcome("TP602")) == (RED, RED)


def test_a_private_key_beside_the_config_is_found(
    scene: Scene, outcome: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    for where in (tmp_path / "notes.txt", tmp_path / ".env", tmp_path / "sub" / "x.key"):
        where.write_text(f"KEY={scene.reader.private_text}\n")
        assert outcome("TP603") == RED, where
        where.unlink()
    assert outcome("TP603") == OK
    monkeypatch.setenv("SOME_VARIABLE", scene.reader.private_text)
    assert outcome("TP603") == RED


def test_a_table_made_since_or_left_out_is_red(scene: Scene, outcome: Callable[..., str]) -> None:
    scene.run(now=datetime.now(UTC) - timedelta(minutes=1))
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE made_since (id int PRIMARY KEY)")
        assert outcome("TP609") == RED
        connection.execute("DROP TABLE made_since")
    assert outcome("TP609") == OK
    scene.backup = replace(scene.backup, exclude_tables=("public.notes",))
    scene.run()
    assert outcome("TP609") == RED


def test_recipients_and_retention(scene: Scene, outcome: Callable[..., str]) -> None:
    scene.backup = replace(scene.backup, recipients=(scene.reader.recipient.text,))
    for minutes in (2, 1, 0):
        scene.run(now=datetime.now(UTC) - timedelta(minutes=minutes))
    assert outcome("TP607") == RED
    assert outcome("TP608", daily=1, weekly=0, monthly=0) == RED
    assert outcome("TP608", daily=3, weekly=0, monthly=0) == RED
