"""The session of each class keeps its promises on a real server, whatever stands between."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pytest_tenantproof.attest import keys
from pytest_tenantproof.backup.restore.place import open_place
from pytest_tenantproof.catalog import read_snapshot
from pytest_tenantproof.client.session import read_rules
from pytest_tenantproof.config.settings import TargetClass
from pytest_tenantproof.errors import (
    CatalogError,
    MigrationError,
    NotReadOnly,
    TargetError,
    TargetUnfit,
    TargetUnreachable,
)
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import EmbeddedPostgres, connect, dsn_parts, open_session, rolled_back
from tests.support import REPOSITORY, create_database
from tests.target.between import standing_between

CLASSES: tuple[TargetClass, ...] = ("live", "staging", "scratch")
LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")


def settings(connection: psycopg.Connection[Any], *names: str) -> list[str]:
    return [connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0] for name in names]  # type: ignore[index]


@pytest.mark.parametrize("class_", CLASSES)
def test_every_class_has_limits_that_nobody_lifts(postgres: EmbeddedPostgres, class_: TargetClass) -> None:
    """Neither the connection string nor a setting of the role or the database."""
    dsn = create_database(postgres)
    with psycopg.connect(dsn, autocommit=True) as admin:
        for name in LIMITS:
            admin.execute(f"ALTER DATABASE {admin.info.dbname} SET {name} = 0".encode())
    lifted = make_conninfo(dsn, options=" ".join(f"-c {name}=0" for name in LIMITS))
    connection, info = open_session(lifted, "t", class_)
    with connection:
        assert settings(connection, *LIMITS) == ["1min", "5s", "1min"]
        assert info.read_only is (class_ == "live")


def test_limits_end_what_takes_too_long(postgres: EmbeddedPostgres) -> None:
    dsn = create_database(postgres)
    limits = {"statement_timeout": "300ms", "lock_timeout": "50ms", "idle_in_transaction_session_timeout": "50ms"}
    with psycopg.connect(dsn) as holder, connect(dsn, limits=limits) as session:
        holder.execute("CREATE TABLE held ()")
        holder.commit()
        holder.execute("LOCK TABLE held")
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            session.execute("SELECT pg_sleep(5)")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            session.execute("TABLE held")
        session.execute("BEGIN")
        holder.execute("SELECT pg_sleep(0.3)")
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            session.execute("SELECT 1")


def test_a_live_session_refuses_every_write(postgres: EmbeddedPostgres) -> None:
    dsn = create_database(postgres)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("CREATE TABLE kept (n int)")
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_read_only = off".encode())
    connection, info = open_session(make_conninfo(dsn, options="-c default_transaction_read_only=off"), "t", "live")
    assert info.read_only
    with connection:
        for write in ("INSERT INTO kept VALUES (1)", "DROP TABLE kept", "CREATE TABLE more ()", "TRUNCATE kept"):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute(write)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), rolled_back(connection):
                connection.execute(write)


def test_staging_writes_are_rolled_back_also_after_an_error(postgres: EmbeddedPostgres) -> None:
    dsn = create_database(postgres)
    connection, _ = open_session(dsn, "t", "staging")
    with connection:
        with rolled_back(connection):
            connection.execute("CREATE TABLE left_over ()")
        with pytest.raises(psycopg.errors.DivisionByZero), rolled_back(connection):
            connection.execute("CREATE TABLE left_over (); SELECT 1 / 0")
        assert connection.execute("SELECT to_regclass('left_over')").fetchone() == (None,)


def without_options(parameters: bytes) -> bytes:
    """As a pooler with `ignore_startup_parameters = options` passes them on."""
    return re.sub(rb"\0options\0[^\0]*(?=\0)", b"", parameters)


def test_a_pooler_that_drops_options_makes_a_live_target_refused(postgres: EmbeddedPostgres) -> None:
    with (
        standing_between(postgres, start_up=without_options) as dsn,
        pytest.raises(NotReadOnly, match="live target 'prod' accepted a write") as refused,
    ):
        open_session(dsn, "prod", "live")
    assert "pooler" in refused.value.remedy


def test_a_write_refused_for_another_reason_proves_nothing(postgres: EmbeddedPostgres) -> None:
    dsn = create_database(postgres)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE powerless LOGIN")
    with (
        standing_between(postgres, start_up=without_options) as through,
        pytest.raises(NotReadOnly, match=r"refused a write, but not for being read-only \(42501\)"),
    ):
        open_session(
            make_conninfo(through, user="powerless", dbname=str(conninfo_to_dict(dsn)["dbname"])), "prod", "live"
        )


CONTROL = """
from pathlib import Path
from pytest_tenantproof import Severity, control, falsified_by

@control("ACME101", title="Ours", severity=Severity.LOW, requirement="A1", maps=None)
@falsified_by("SELECT 1")
def check_ours(catalog, findings):
    '''It leaves a mark.'''
    Path("ran").touch()
"""
CONFIG = """
[tenantproof]
controls = ["own.py"]
[tenantproof.targets.prod]
class = "live"
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start_up": without_options}, "accepted a write"),
        (
            {"answer": lambda data: re.sub(rb"(server_version\x00)[\d.]{4}", rb"\g<1>14.9", data)},
            "runs PostgreSQL 14.9",
        ),
    ],
    ids=["writable", "too-old"],
)
def test_no_control_runs_on_a_target_that_is_unfit(
    postgres: EmbeddedPostgres, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    (tmp_path / "own.py").write_text(CONTROL)
    (tmp_path / "tenantproof.toml").write_text(CONFIG)
    private, _ = keys.new_key(tmp_path / "keys")
    with standing_between(postgres, **change) as dsn:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TENANTPROOF_", "CI"))}
        environment |= {keys.KEY_FILE_VARIABLE: str(private), "TENANTPROOF_PROD_DSN": dsn}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--evidence=prod"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Remedy: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "evidence").exists()


def test_too_old_a_server_is_unfit(postgres: EmbeddedPostgres) -> None:
    """The version is what the server says when a session starts; 14 is said here in place of 18."""
    older = re.compile(rb"(server_version\x00)[\d.]{4}")
    with (
        standing_between(postgres, answer=lambda data: older.sub(rb"\g<1>14.9", data)) as dsn,
        pytest.raises(TargetUnfit, match=r"runs PostgreSQL 14\.9, older than 15") as refused,
    ):
        open_session(dsn, "t", "staging")
    assert refused.value.remedy == "upgrade the server to 15 or newer."


REFUSED = [
    ("CREATE ROLE {role} LOGIN", "permission denied for database", "GRANT CONNECT ON DATABASE"),
    ("CREATE ROLE {role} NOLOGIN", "is not permitted to log in", "LOGIN"),
    ("CREATE ROLE {role} LOGIN CONNECTION LIMIT 0", "too many connections for role", "CONNECTION LIMIT"),
    ("SELECT 1", "does not exist", "correct the database or role name"),
]


@pytest.mark.parametrize(("made", "said", "remedy"), REFUSED)
def test_who_may_not_connect_is_told_what_is_missing(
    postgres: EmbeddedPostgres, made: str, said: str, remedy: str
) -> None:
    dsn, role = create_database(postgres), f"refused_{len(remedy)}"
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(made.format(role=role).encode())
        admin.execute(f"REVOKE CONNECT ON DATABASE {admin.info.dbname} FROM PUBLIC".encode())
    with pytest.raises(TargetError, match=said) as refused:
        open_session(make_conninfo(dsn, user=role), "t", "staging")
    assert remedy in refused.value.remedy
    assert "\n" not in str(refused.value)


def test_who_may_not_read_the_catalog_is_told_so(postgres: EmbeddedPostgres) -> None:
    dsn = create_database(postgres)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE blind LOGIN")
        admin.execute("REVOKE SELECT ON pg_catalog.pg_policy FROM PUBLIC")
    connection, _ = open_session(make_conninfo(dsn, user="blind"), "t", "live")
    with connection, pytest.raises(CatalogError, match="permission denied for table pg_policy") as refused:
        read_snapshot(connection)
    assert "pg_catalog" in refused.value.remedy


def test_who_may_not_create_is_told_so_by_migrate(postgres: EmbeddedPostgres) -> None:
    dsn = create_database(postgres)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE reader LOGIN")
    with pytest.raises(MigrationError, match="permission denied") as refused:
        apply(make_conninfo(dsn, user="reader"), migrations_folder())
    assert "CREATE" in refused.value.remedy


SECRET = "hunter2secret"
MISREAD = [
    "postgresql://postgres:hun/ter2secret@127.0.0.1:1/db",
    "postgresql://postgres:/hunter2secret@127.0.0.1:1/db",
    "postgresql://postgres:x@hunter2secret@127.0.0.1:1/db",
    "postgresql://postgres:hunter2secret",
    "postgresql://postgres:hunter2secret%zz@127.0.0.1:1/db",
    "postgresql://postgres@127.0.0.1:1/db?passwort=hunter2secret",
    "postgres:hunter2secret@127.0.0.1:1/db",
    "host=127.0.0.1 port=1 password=x hunter2secret",
    "host=127.0.0.1 port=hunter2secret",
    "postgresql://127.0.0.1:1/db?user=postgres&password=x/@hunter2secret",
]


def test_one_place_reads_connection_strings() -> None:
    """libpq's own errors quote what they could not read."""
    readers = [p.name for p in (REPOSITORY / "pytest_tenantproof").rglob("*.py") if "conninfo_to_dict" in p.read_text()]
    assert readers == ["session.py"]


REFUSED_BY_THE_SERVER = [
    "postgresql://postgres:hun%74er2secret@127.0.0.1:1/db",
    "postgresql://postgres:hunter2secret%40%2F@127.0.0.1:1/db",
    "postgresql://postgres@127.0.0.1:1/db?password=hunter2secret",
    "host=127.0.0.1 port=1 password='hunter2secret'",
]


def _restore_to(dsn: str) -> None:
    with open_place(dsn):
        raise AssertionError(dsn)


READERS: dict[str, Callable[[str], object]] = {
    "session": connect,
    "restore": _restore_to,
    "client": lambda dsn: read_rules(dsn, None, None),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("dsn", MISREAD)
def test_a_connection_string_that_would_be_misread_is_refused_without_a_word_of_it(dsn: str, reader: str) -> None:
    with pytest.raises(TargetUnreachable, match="malformed") as refused:
        READERS[reader](dsn)
    assert not [part for part in ("hun", "ter2", "secret", "postgres:") if part in str(refused.value)]
    assert refused.value.__cause__ is None
    assert "%40" in refused.value.remedy


@pytest.mark.parametrize("dsn", REFUSED_BY_THE_SERVER)
def test_a_refused_connection_names_the_place_and_no_password(dsn: str) -> None:
    with pytest.raises(TargetUnreachable, match=r"127\.0\.0\.1:1") as refused:
        connect(dsn)
    assert not [part for part in (SECRET, "hun%74er2secret", "%40%2F", "@/") if part in str(refused.value)]


def test_special_characters_of_a_password_and_of_a_user_are_given_percent_encoded(postgres: EmbeddedPostgres) -> None:
    dsn = create_database(postgres)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE \"me@site\" LOGIN PASSWORD 'a@b/c'")
    place = conninfo_to_dict(dsn)
    host = str(place["host"]).replace("/", "%2F")
    with connect(f"postgresql://me%40site:a%40b%2Fc@{host}:{place['port']}/{place['dbname']}") as session:
        assert session.info.user == "me@site"


def test_what_only_looks_like_an_address_in_pairs_of_keys_and_values_is_read() -> None:
    assert dsn_parts("host=db user=me password=a://b@c@d/e")["password"] == "a://b@c@d/e"
