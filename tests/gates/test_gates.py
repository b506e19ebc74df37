"""The gate opens on one combination of all, whatever the rest."""

import hmac
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pytest_tenantproof.cli import main
from pytest_tenantproof.config import Settings, TargetSettings
from pytest_tenantproof.errors import GateRefused, UsageError
from pytest_tenantproof.gates import Facts, hashed, mark, refusals, require_demo_seed
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import find_bin, start

SECRET = "correct horse battery staple"
OPEN = {"ALLOW_DEMO_SEED": "true", "DEMO_SEED_SECRET": SECRET}
SETTINGS = Settings(
    targets={
        "live": TargetSettings(class_="live", database_host_allow=("local",)),
        "staging": TargetSettings(class_="staging", database_host_allow=("db.test", "local")),
        "scratch": TargetSettings(class_="scratch", database_host_allow=("local",)),
        "elsewhere": TargetSettings(class_="staging", database_host_allow=("db.test",)),
        "by-address": TargetSettings(class_="staging", database_host_allow=("127.0.0.1",)),
        "no-hosts": TargetSettings(class_="staging"),
    }
)


def test_the_whole_truth_table() -> None:
    allow = ("", "true", "TRUE", "True", "1", "yes", " true", "false")
    secret = (True, False)
    classes = ("", "live", "staging", "scratch", "Staging")
    markers = ("", "production", "staging", "development", "test")
    hosts = ((), ("db",), ("local",), ("db", "other"), ("prod",))
    allowed = ((), ("db",), ("db", "local"))
    table = list(itertools.product(allow, secret, classes, markers, hosts, allowed))
    assert len(table) == 6000
    opened = [row for row in table if not refusals(Facts(*row))]
    assert set(opened) == {
        ("true", True, class_, marker, host, allow_list)
        for class_ in ("staging", "scratch")
        for marker in ("staging", "development")
        for host, allow_list in (
            (("db",), ("db",)),
            (("db",), ("db", "local")),
            (("local",), ("db", "local")),
        )
    }


def test_every_refusal_names_every_reason() -> None:
    assert len(refusals(Facts("", False, "", "", (), ()))) == 5


@pytest.fixture
def database(new_database: Callable[[], str]) -> Iterator[psycopg.Connection[object]]:
    dsn = new_database()
    apply(dsn, migrations_folder())
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def attempt(connection: psycopg.Connection[object], target: str = "staging", **environment: str) -> str:
    try:
        require_demo_seed(connection, target, settings=SETTINGS, environment=OPEN | environment)
    except GateRefused as error:
        return error.message
    return ""


def test_the_gate_on_a_real_database(database: psycopg.Connection[object], caplog: pytest.LogCaptureFixture) -> None:
    assert "the database says it is nothing" in attempt(database)
    mark(database, "staging", SECRET)
    with caplog.at_level(logging.INFO):
        assert attempt(database) == ""
        assert attempt(database, "scratch") == ""
        assert "ALLOW_DEMO_SEED is not true" in attempt(database, ALLOW_DEMO_SEED="TRUE")
        for wrong in ("", "short", SECRET + "!", SECRET[:-1]):
            assert "does not match" in attempt(database, DEMO_SEED_SECRET=wrong)
        assert "class is live" in attempt(database, "live")
        assert "class is unknown" in attempt(database, "nowhere")
        assert "database_host_allow" in attempt(database, "elsewhere")
        assert "database_host_allow" in attempt(database, "no-hosts")
    assert SECRET not in caplog.text
    assert "refused to seed target live" in caplog.text
    mark(database, "development", SECRET + " new")
    assert "does not match" in attempt(database)
    assert attempt(database, DEMO_SEED_SECRET=SECRET + " new") == ""


def test_the_hash_is_compared_in_constant_time(
    database: psycopg.Connection[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each comparison goes through hmac.compare_digest, and takes both hashes whole."""
    mark(database, "staging", SECRET)
    real, seen = hmac.compare_digest, list[tuple[str, str]]()

    def compare(one: str, other: str) -> bool:
        seen.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert attempt(database) == ""
    assert "does not match" in attempt(database, DEMO_SEED_SECRET=SECRET + "!")
    (good, wrong) = seen
    assert [len(text) for pair in seen for text in pair] == [64] * 4
    assert good[0] == good[1] == wrong[1] != wrong[0]


def test_production_stays_production(database: psycopg.Connection[object]) -> None:
    mark(database, "staging", SECRET)
    mark(database, "production", "")
    assert "says it is production" in attempt(database)
    with pytest.raises(GateRefused, match="stays so"):
        mark(database, "staging", SECRET)
    for sql in (
        "UPDATE tenantproof.environment SET environment = 'staging'",
        "DELETE FROM tenantproof.environment",
        "TRUNCATE tenantproof.environment",
        "SET session_replication_role = replica; DELETE FROM tenantproof.environment",
    ):
        with pytest.raises(psycopg.DatabaseError, match="stays so"):
            database.execute(sql.encode())
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute("INSERT INTO tenantproof.environment (only_row, environment) VALUES (false, 'staging')")
    assert "says it is production" in attempt(database)


def test_a_database_that_cannot_be_asked_is_not_seeded(database: psycopg.Connection[object]) -> None:
    mark(database, "staging", SECRET)
    for role in ("anon", "authenticated", "service_role"):
        database.execute(f"SET ROLE {role}".encode())
        assert "says it is nothing" in attempt(database)
        database.execute("RESET ROLE")
    database.execute("UPDATE tenantproof.environment SET demo_seed_hash = NULL")
    assert "does not match" in attempt(database)
    database.execute("DROP TABLE tenantproof.environment")
    assert "says it is nothing" in attempt(database)


def test_hostaddr_cannot_hide_behind_an_allowed_host() -> None:
    with start(find_bin(18), tcp=True) as server:
        apply(server.dsn(), migrations_folder())
        for host, reason in (("127.0.0.1", ""), ("db.test", "database_host_allow")):
            given = conninfo_to_dict(server.dsn()) | {"host": host, "hostaddr": "127.0.0.1"}
            with psycopg.connect(make_conninfo("", **given), autocommit=True) as connection:
                mark(connection, "staging", SECRET)
                target = "by-address" if not reason else "staging"
                assert reason in attempt(connection, target)
                assert bool(reason) == bool(attempt(connection, target))


def test_hashes_are_salted_and_short_secrets_refused() -> None:
    assert hashed(SECRET) != hashed(SECRET)
    assert SECRET not in hashed(SECRET)
    with pytest.raises(UsageError, match="fewer than 16"):
        hashed("too short")


def test_the_verbs(
    database: psycopg.Connection[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "tenantproof.toml"
    config.write_text(
        '[tenantproof.targets.staging]\nclass = "staging"\ndatabase_host_allow = ["local"]\n'
        '[tenantproof.targets.prod]\nclass = "live"\n'
    )
    for target in ("STAGING", "PROD"):
        monkeypatch.setenv(f"TENANTPROOF_{target}_WRITER_DSN", database.info.dsn)
    seed = ["seed-demo", "--target", "staging", "--config", str(config)]
    marking = ["environment", "--config", str(config), "--target"]
    assert main(seed) == 1
    monkeypatch.setenv("ALLOW_DEMO_SEED", "true")
    monkeypatch.setenv("DEMO_SEED_SECRET", SECRET)
    assert main(seed) == 1
    assert database.execute("SELECT count(*) FROM public.tenants").fetchall() == [(0,)]
    assert main([*marking, "prod", "--set", "staging"]) == 1
    assert main([*marking, "staging", "--set", "production"]) == 1
    assert main([*marking, "staging", "--set", "staging"]) == 0
    assert main(seed) == 0
    assert database.execute("SELECT count(*) FROM public.tenants").fetchall() == [(4,)]
    assert main([*marking, "prod", "--set", "production"]) == 0
    assert main(seed) == 1
    assert "the database says it is production" in capsys.readouterr().err
