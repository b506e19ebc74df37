"""What may be replaced: a target that is provably not production. What cannot be found out counts against it."""

import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from socket import getaddrinfo
from typing import Any

import psycopg

from pytest_tenantproof.backup.manifest import Manifest
from pytest_tenantproof.backup.restore.place import COPY_MARK
from pytest_tenantproof.config import Settings, environment_name
from pytest_tenantproof.errors import RestoreError, TargetUnreachable
from pytest_tenantproof.target import dsn_parts

__all__ = ["refusals", "require_restorable"]

Connection = psycopg.Connection[Any]
_KINDS = ("DSN", "WRITER_DSN", "PROBE_DSN", "BACKUP_DSN")


def require_restorable(
    settings: Settings,
    target: str,
    dsn: str,
    manifest: Manifest,
    server: Connection,
    database: Connection | None,
    *,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """`server` is a session on the target's server, `database` one in the database to be replaced (None: there
    is none yet). Raises RestoreError with every reason."""
    reasons = list(refusals(settings, target, dsn, environment))
    identity = _system_identifier(server)
    if "unknown" in (identity, manifest.source.system_identifier):
        reasons.append("one cannot tell whether its server is the one that the backup is of")
    elif identity == manifest.source.system_identifier:
        reasons.append("its server is the very one that the backup is of")
    if database is not None:
        reasons += _marked(database)
    if reasons:
        raise RestoreError(
            f"target {target!r} is not replaced: {'; '.join(reasons)}.",
            remedy="restore to a target that is provably not production; see docs/RESTORE.md.",
        )


def refusals(settings: Settings, target: str, dsn: str, environment: Mapping[str, str]) -> Iterable[str]:
    """What configuration and environment have against a restore to `dsn`."""
    wanted = settings.target(target)
    if not wanted.restorable:
        yield "it is not marked restorable = true"
    if wanted.class_ not in ("staging", "scratch"):
        yield f"its class is {wanted.class_}"
    mine = _places(dsn)
    for name, other in settings.targets.items():
        if other.class_ != "live":
            continue
        for variable in (environment_name(name, kind) for kind in _KINDS):
            given = environment.get(variable, "").strip()
            if not given:
                continue
            if given == dsn.strip():
                yield f"{variable} of live target {name!r} is the same connection string"
            elif _meet(mine, given):
                yield f"it is on the host of live target {name!r} ({variable})"


def _meet(mine: set[tuple[str, str]], dsn: str) -> bool:
    """The same address is the same host, whatever the port; on this machine, ports tell servers apart."""
    theirs = _places(dsn)
    local = {place for place in mine & theirs if _is_here(place[0])}
    away = {address for address, _ in mine if not _is_here(address)} & {address for address, _ in theirs}
    return bool(local or away)


def _is_here(address: str) -> bool:
    return address.startswith("/") or ip_address(address).is_loopback


def _places(dsn: str) -> set[tuple[str, str]]:
    """(address, port) of every server that a connection string can lead to; a socket's folder is its address."""
    given = dsn_parts(dsn)
    hosts = [str(given[key]) for key in ("host", "hostaddr") if given.get(key)] or [""]
    ports = str(given.get("port") or "5432").split(",")
    addresses = {address for named in hosts for host in named.split(",") for address in _addresses(host)}
    return {(address, port) for address in addresses for port in ports}


def _addresses(host: str) -> set[str]:
    if host.startswith(("/", "@")):
        return {str(Path(host).resolve()) if host.startswith("/") else f"/{host}"}
    try:
        return {str(found[4][0]).partition("%")[0] for found in getaddrinfo(host or "localhost", None)}
    except OSError as error:
        raise TargetUnreachable(f"{host} does not resolve: {error}.", remedy="check the name and DNS.") from None


def _system_identifier(server: Connection) -> str:
    try:
        row = server.execute("SELECT system_identifier::text FROM pg_catalog.pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return "unknown"
    return str(row[0]) if row else "unknown"


def _marked(database: Connection) -> list[str]:
    """What the database says of itself: an earlier restore's mark, or the marker row of 006; empty needs none."""
    row = database.execute(
        "SELECT pg_catalog.shobj_description(d.oid, 'pg_database'),"
        " pg_catalog.to_regclass('tenantproof.environment') IS NOT NULL,"
        " EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        "         WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        "           AND n.nspname !~ '^pg_toast')"
        " FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"
    ).fetchone()
    assert row is not None
    description, marker, filled = row
    if str(description or "").startswith(COPY_MARK) or not filled:
        return []
    says = database.execute("SELECT environment FROM tenantproof.environment").fetchall() if marker else []
    if len(says) != 1:
        return ["its database does not say what it is (tenantproof environment --set staging)"]
    return ["its database says it is production"] if says[0][0] not in ("staging", "development") else []
