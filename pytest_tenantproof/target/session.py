"""Opens the session that controls use, and enforces what its class promises.

live     default_transaction_read_only, proven by the server refusing a write before anything else runs
staging  writes happen only inside transactions that are rolled back
scratch  the same session; the database itself may be created and dropped
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pytest_tenantproof.config.settings import TargetClass
from pytest_tenantproof.errors import NotReadOnly, TargetUnfit, TargetUnreachable

__all__ = ["OLDEST", "TargetInfo", "connect", "dsn_parts", "open_session", "rolled_back"]

OLDEST = 15
_LIMITS = {
    "statement_timeout": "60s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
}
# What libpq and the server say of a refused connection, and what helps.
_REMEDIES = {
    "password authentication failed": "correct the user or password in the connection string.",
    "no password supplied": "put the password in the connection string or in PGPASSWORD.",
    "permission denied for database": "let the role in: GRANT CONNECT ON DATABASE ... TO the role.",
    "not permitted to log in": "use a role that may log in, or ALTER ROLE ... LOGIN.",
    "too many connections for role": "close other sessions of the role, or raise its CONNECTION LIMIT.",
    "too many clients": "close other sessions, or raise max_connections.",
    "no pg_hba.conf entry": "let this role in from this address, over TLS where asked for, in pg_hba.conf.",
    "does not exist": "correct the database or role name in the connection string.",
    "timeout": "check host, port, firewall and that the server answers.",
}


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """What a report says of its target. `read_only` is what the server was seen to enforce."""

    name: str
    class_: TargetClass
    server_version: str
    database: str
    system_identifier: str
    role: str
    read_only: bool
    server_time: str


def connect(dsn: str, *, limits: dict[str, str] | None = None, read_only: bool = False) -> psycopg.Connection[Any]:
    """A connection with time limits, in autocommit. Raises TargetUnreachable; the password is never in it.

    An `application_name` among the limits goes before that of the DSN; libpq lets its own win over one in `options`.
    """
    options = dict(_LIMITS if limits is None else limits)
    if read_only:
        options["default_transaction_read_only"] = "on"
    given = dsn_parts(dsn)
    try:
        given["application_name"] = options.pop("application_name", "") or given.get("application_name", "tenantproof")
        settings = " ".join(f"-c {name}={value}" for name, value in options.items())
        given["options"] = f"{given.get('options') or ''} {settings}".strip()
        given.setdefault("connect_timeout", 10)
        return psycopg.connect(make_conninfo("", **given), autocommit=True)
    except psycopg.Error as error:
        raise _unreachable(error, given) from None


def dsn_parts(dsn: str) -> dict[str, Any]:
    """What libpq reads in a connection string. Nothing else here asks it: its own errors quote the string.

    Raises TargetUnreachable for one that cannot be read, or in which libpq would take a part of a password (with @ or
    / as they are) for host, port or database: that would be asked for in the DNS, and shown in errors.
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error:
        raise _malformed() from None
    uri = dsn if dsn.startswith(("postgresql://", "postgres://")) else ""
    authority, _, path = uri.partition("://")[2].partition("/")
    if authority.count("@") > 1 or "@" in path or not re.fullmatch(r"[\d,]*", str(given.get("port", ""))):
        raise _malformed()
    return given


def _malformed() -> TargetUnreachable:
    """Says nothing of the string itself: where it is broken, its password may be anywhere."""
    return TargetUnreachable(
        "the connection string is malformed.",
        remedy="write it as postgresql://user@host:5432/database, with @ as %40 and / as %2F in user and password,"
        " or as key=value pairs.",
    )


def _unreachable(error: psycopg.Error, given: dict[str, Any]) -> TargetUnreachable:
    where = f"{given.get('host', 'the local socket')}:{given.get('port', 5432)}/{given.get('dbname', '')}"
    text = " ".join(str(error).split())
    if password := given.get("password"):
        text = text.replace(str(password), "***")
    remedy = next((r for part, r in _REMEDIES.items() if part in text), "check host, port and that it is running.")
    return TargetUnreachable(f"cannot connect to {where}: {text}.", remedy=remedy)


def open_session(dsn: str, name: str, class_: TargetClass) -> tuple[psycopg.Connection[Any], TargetInfo]:
    """Connects, checks version and rights, and on a live target proves that writes are refused.

    Raises TargetUnreachable, TargetUnfit or NotReadOnly.
    """
    connection = connect(dsn, read_only=class_ == "live")
    try:
        _require_version(connection, name)
        _require_finished(connection, name)
        if class_ == "live":
            _prove_read_only(connection, name)
        return connection, _describe(connection, name, class_)
    except BaseException:
        connection.close()
        raise


def _require_version(connection: psycopg.Connection[Any], name: str) -> None:
    if connection.info.server_version // 10000 < OLDEST:
        version = connection.info.parameter_status("server_version")
        raise TargetUnfit(
            f"target {name!r} runs PostgreSQL {version}, older than {OLDEST}.",
            remedy=f"upgrade the server to {OLDEST} or newer.",
        )


def _require_finished(connection: psycopg.Connection[Any], name: str) -> None:
    """A database that a restore was filling when it failed says so in its comment (backup/restore/place.py)."""
    row = connection.execute(
        "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database"
        " WHERE datname = pg_catalog.current_database()"
    ).fetchone()
    if row and str(row[0] or "").startswith("tenantproof: restored copy unfinished"):
        raise TargetUnfit(
            f"target {name!r} is a database that a restore left unfinished.",
            remedy="restore into it again; until then nothing in it counts.",
        )


def _prove_read_only(connection: psycopg.Connection[Any], name: str) -> None:
    """Asks the server for a write that touches nothing of the product: it has to refuse as read-only."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("CREATE SEQUENCE pg_temp.tenantproof_read_only_check")
    except psycopg.errors.ReadOnlySqlTransaction:
        return
    except psycopg.Error as error:
        raise NotReadOnly(
            f"target {name!r} refused a write, but not for being read-only ({error.sqlstate}).",
            remedy="check that nothing between here and the server rewrites statements.",
        ) from error
    raise NotReadOnly(
        f"live target {name!r} accepted a write.",
        remedy="connect without a pooler that drops default_transaction_read_only from the start-up options.",
    )


def _describe(connection: psycopg.Connection[Any], name: str, class_: TargetClass) -> TargetInfo:
    row = connection.execute(
        "SELECT current_setting('server_version'), current_database(), current_user,"
        " current_setting('transaction_read_only') = 'on', clock_timestamp() AT TIME ZONE 'UTC'"
    ).fetchone()
    if row is None:
        raise TargetUnfit(f"target {name!r} does not describe itself.", remedy="check the server's log.")
    return TargetInfo(
        name, class_, row[0], row[1], _system_identifier(connection), row[2], row[3], f"{row[4].isoformat()}Z"
    )


def _system_identifier(connection: psycopg.Connection[Any]) -> str:
    """pg_control_system(), or "unknown" where the role may not call it (it may, by default)."""
    try:
        row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return "unknown"
    return str(row[0]) if row else "unknown"


@contextlib.contextmanager
def rolled_back(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that is rolled back whatever happens; nothing inside it can commit by accident."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        connection.execute("ROLLBACK")
