"""Where a restore happens: a new database under a name of its own, which takes the target's name at the end."""

import contextlib
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pytest_tenantproof.errors import RestoreError, TargetUnreachable
from pytest_tenantproof.target import connect, dsn_parts

__all__ = ["COPY_MARK", "UNFINISHED", "Place", "open_place"]

Connection = psycopg.Connection[Any]
COPY_MARK = "tenantproof: restored copy"
"""How the comment on a restored database begins. It is no part of a dump, so production never gets it."""

UNFINISHED = "unfinished"
"""Follows the mark while a database is refilled in its place: until then it is no copy of anything."""

_LOCK = 0x74656E616E74_72
_UNFINISHED = "_tprestore_"
_REPLACED = "_tpreplaced_"
_PATIENCE = 20.0


@dataclass(slots=True)
class Place:
    """The server of a target. `database` is the name that the restored copy takes at the end."""

    server: Connection
    database: str
    dsn: str = field(repr=False)

    def exists(self, name: str | None = None) -> bool:
        found = self.server.execute(
            "SELECT FROM pg_catalog.pg_database WHERE datname = %s", [name or self.database]
        ).fetchone()
        return found is not None

    def dsn_of(self, name: str) -> str:
        return make_conninfo("", **{**dsn_parts(self.dsn), "dbname": name})

    def sweep(self) -> tuple[str, ...]:
        """Drops what killed restores of this database left; the caller holds the lock. Returns their names."""
        kinds = "|".join((_UNFINISHED, _REPLACED))
        pattern = f"^{re.escape(self.database[:40])}({kinds})[0-9a-f]{{8}}$"
        found = self.server.execute(
            "SELECT datname::text FROM pg_catalog.pg_database WHERE datname ~ %s ORDER BY 1", [pattern]
        ).fetchall()
        for (name,) in found:
            self.drop(name)
        return tuple(name for (name,) in found)

    def create(self, encoding: str) -> str:
        """An empty database of a temporary name, which nobody but its owner may enter. Raises RestoreError."""
        name = f"{self.database[:40]}{_UNFINISHED}{secrets.token_hex(4)}"
        try:
            self._run("CREATE DATABASE {} TEMPLATE template0 ENCODING " + _literal(encoding), name)
            self._run("REVOKE ALL ON DATABASE {} FROM PUBLIC", name)
        except psycopg.errors.InsufficientPrivilege:
            raise RestoreError(
                "the role may not create a database here.",
                remedy="grant it CREATEDB, or restore on a server that allows it; a drill needs no right here.",
            ) from None
        return name

    def drop(self, name: str) -> None:
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def swap(self, made: str, mark: str) -> None:
        """Gives `made` the target's name, in one transaction, and drops what had it. Sessions in the old database
        are ended. Raises RestoreError when they cannot be; then everything is as it was."""
        self._run("COMMENT ON DATABASE {} IS " + _literal(f"{COPY_MARK} {mark}"), made)
        if not self.exists():
            self._run("ALTER DATABASE {} RENAME TO {}", made, self.database)
            return
        old = f"{self.database[:40]}{_REPLACED}{secrets.token_hex(4)}"
        self._take_over(made)
        until = time.monotonic() + _PATIENCE
        while True:
            self._end_sessions()
            try:
                with self.server.transaction():
                    self._run("ALTER DATABASE {} RENAME TO {}", self.database, old)
                    self._run("ALTER DATABASE {} RENAME TO {}", made, self.database)
                break
            except psycopg.errors.ObjectInUse:
                if time.monotonic() > until:
                    raise RestoreError(
                        f"others keep using {self.database}; nothing was changed.",
                        remedy="stop what connects to it (pg_stat_activity), and restore again.",
                    ) from None
                time.sleep(0.2)
        self.drop(old)

    def _end_sessions(self) -> None:
        try:
            self.server.execute(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = %s",
                [self.database],
            )
        except psycopg.errors.InsufficientPrivilege:
            raise RestoreError(
                f"others use {self.database}, and this role may not end their sessions; nothing was changed.",
                remedy="grant it pg_signal_backend, or stop what connects.",
            ) from None

    def _take_over(self, made: str) -> None:
        """Owner, privileges and settings of the database itself, which no dump of its schema holds."""
        row = self.server.execute(
            "SELECT pg_catalog.pg_get_userbyid(datdba)::text FROM pg_catalog.pg_database WHERE datname = %s",
            [self.database],
        ).fetchone()
        assert row is not None
        self._run("ALTER DATABASE {} OWNER TO {}", made, row[0])
        grants = self.server.execute(
            "SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(a.grantee)::text END,"
            " a.privilege_type, a.is_grantable FROM pg_catalog.pg_database d"
            " CROSS JOIN pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a"
            " WHERE d.datname = %s",
            [self.database],
        ).fetchall()
        for grantee, privilege, grantable in grants:
            to = sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
            text = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(privilege), sql.Identifier(made), to)
            self.server.execute(text + sql.SQL(" WITH GRANT OPTION" if grantable else ""))
        settings = self.server.execute(
            "SELECT coalesce(r.rolname::text, ''), pg_catalog.unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting s"
            " JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_catalog.pg_roles r"
            " ON r.oid = s.setrole WHERE d.datname = %s",
            [self.database],
        ).fetchall()
        for role, setting in settings:
            self._set(made, role, *setting.split("=", 1))

    def _set(self, made: str, role: str, name: str, value: str) -> None:
        """FROM CURRENT, because settings that are lists cannot be written as one literal."""
        text = "ALTER ROLE {} IN DATABASE {} SET {} FROM CURRENT" if role else "ALTER DATABASE {} SET {} FROM CURRENT"
        names = [sql.Identifier(part) for part in (role, made) if part]
        with self.server.transaction():
            self.server.execute("SELECT pg_catalog.set_config(%s, %s, true)", [name, value])
            self.server.execute(sql.SQL(text).format(*names, sql.Identifier(*name.split("."))))

    def _run(self, statement: Any, *names: str) -> None:
        self.server.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None).replace("{", "{{").replace("}", "}}")


@contextlib.contextmanager
def open_place(dsn: str, *, inside: bool = False) -> Iterator[Place]:
    """The server that a target's writer DSN leads to, reached by another database than the target's; `inside`: by
    that very database.

    Raises TargetUnreachable, or RestoreError when another restore runs there.
    """
    given = dsn_parts(dsn)
    name = str(given.get("dbname") or given.get("user") or "")
    if not name:
        raise TargetUnreachable("the connection string names no database.", remedy="add dbname to it.")
    server = connect(dsn, limits={}) if inside else _by_another(dsn, name)
    try:
        row = server.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
        if row is None or not row[0]:
            raise RestoreError("another restore is running on this server.", remedy="wait for it.")
        yield Place(server, name, dsn)
    finally:
        server.close()


def _by_another(dsn: str, name: str) -> Connection:
    error: TargetUnreachable | None = None
    for other in ("postgres", "template1"):
        if other == name:
            continue
        try:
            return connect(make_conninfo("", **{**dsn_parts(dsn), "dbname": other}), limits={})
        except TargetUnreachable as problem:
            error = error or problem
    assert error is not None
    raise error
