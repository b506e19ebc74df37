"""A restore never replaces what could be production. Each test is an attack or a mistake."""

from dataclasses import replace

import psycopg
import pytest

from pytest_tenantproof.backup.restore.guard import refusals
from pytest_tenantproof.config import Settings, TargetSettings
from pytest_tenantproof.errors import RestoreError, UsageError
from tests.restore.support import TARGETS, Stage, content

SETTINGS = Settings(targets=TARGETS)


def test_only_a_target_marked_restorable(stage: Stage) -> None:
    before = content(stage.dsn)
    with pytest.raises(RestoreError, match="not marked restorable"):
        stage.restore(target="closed")
    assert content(stage.dsn) == before


def test_a_live_target_is_refused_even_if_marked_restorable(stage: Stage) -> None:
    careless = stage.settings(targets={"prod": TargetSettings(class_="live", restorable=True)})
    with pytest.raises(RestoreError, match="its class is live"):
        stage.restore(target="prod", settings=careless)


def test_a_target_that_is_not_configured(stage: Stage) -> None:
    with pytest.raises(UsageError):
        stage.restore(target="elsewhere")


def test_the_server_that_the_backup_is_of(stage: Stage) -> None:
    before = content(stage.scene.dsn)
    with pytest.raises(RestoreError, match="the very one that the backup is of"):
        stage.restore(dsn=stage.scene.dsn)
    assert content(stage.scene.dsn) == before


def test_a_database_that_says_it_is_production(stage: Stage) -> None:
    with psycopg.connect(stage.dsn, autocommit=True) as connection:
        connection.execute("UPDATE tenantproof.environment SET environment = 'production'")
    before = content(stage.dsn)
    with pytest.raises(RestoreError, match="says it is production"):
        stage.restore()
    assert content(stage.dsn) == before


def test_a_database_that_says_nothing(stage: Stage) -> None:
    with psycopg.connect(stage.dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE tenantproof.environment")
    with pytest.raises(RestoreError, match="does not say what it is"):
        stage.restore()


def test_a_source_whose_identity_is_unknown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_tenantproof.backup.restore import guard

    monkeypatch.setattr(guard, "_system_identifier", lambda _: "unknown")
    with pytest.raises(RestoreError, match="cannot tell"):
        stage.restore()


@pytest.mark.parametrize("kind", ["DSN", "WRITER_DSN", "PROBE_DSN", "BACKUP_DSN"])
def test_the_very_connection_string_of_a_live_target(stage: Stage, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv(f"TENANTPROOF_PROD_{kind}", stage.dsn)
    with pytest.raises(RestoreError, match="the same connection string"):
        stage.restore()


@pytest.mark.parametrize(
    ("mine", "live", "refused"),
    [
        ("postgresql://a@192.0.2.7/s", "postgresql://b@192.0.2.7/p", True),
        ("postgresql://a@192.0.2.7:6543/s", "host=192.0.2.7 port=5432 dbname=p", True),
        ("postgresql://a@192.0.2.8/s", "host=decoy.invalid hostaddr=192.0.2.8", None),
        ("host=192.0.2.8 dbname=s", "hostaddr=192.0.2.8", True),
        ("postgresql://a@192.0.2.1,192.0.2.2/s", "host=192.0.2.2", True),
        ("host=127.0.0.1 port=5433", "host=localhost port=5433", True),
        ("host=127.0.0.1 port=5433", "host=localhost port=5434", False),
        ("host=/tmp/a", "host=/tmp/b/../a", True),
        ("host=/tmp/a", "host=/tmp/b", False),
        ("host=192.0.2.8", "host=192.0.2.9", False),
    ],
)
def test_the_host_of_a_live_target(mine: str, live: str, refused: bool | None) -> None:
    from pytest_tenantproof.errors import TargetUnreachable

    environment = {"TENANTPROOF_PROD_DSN": live}
    if refused is None:
        with pytest.raises(TargetUnreachable, match="does not resolve"):
            list(refusals(SETTINGS, "staging", mine, environment))
    else:
        assert bool(list(refusals(SETTINGS, "staging", mine, environment))) == refused


def test_a_mark_of_an_earlier_restore_does_not_outweigh_the_rest(stage: Stage) -> None:
    stage.restore()
    with pytest.raises(RestoreError, match="not marked restorable"):
        stage.restore(settings=replace(stage.settings(), targets={"staging": TargetSettings(class_="staging")}))
