"""Gates for scripts that seed, demo or destroy: not provably non-production means no.

    from pytest_tenantproof.gates import require_demo_seed

    with psycopg.connect(dsn) as connection:
        require_demo_seed(connection, "staging")
        ...

Four things have to agree, and none of them alone can open the gate: the caller (ALLOW_DEMO_SEED=true and
DEMO_SEED_SECRET), the configuration (the target's class), the database (its marker row, which holds the hash of the
secret) and the host that the connection really leads to.
"""

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from pytest_tenantproof.config import Settings, find_config, load_settings
from pytest_tenantproof.errors import GateRefused, UsageError

__all__ = ["Facts", "hashed", "mark", "refusals", "require_demo_seed"]

ALLOW, SECRET = "ALLOW_DEMO_SEED", "DEMO_SEED_SECRET"
_SHORTEST = 16
_SCRYPT = "scrypt$16384$8$1$"
_log = logging.getLogger("tenantproof.gates")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a caller and of where its connection leads; empty is unknown."""

    allow: str
    """ALLOW_DEMO_SEED as it is set."""
    secret_matches: bool
    class_: str
    """The configured class of the target."""
    marker: str
    """What the database says it is."""
    hosts: tuple[str, ...]
    """Every host that the connection names; "local" is a Unix socket."""
    allowed_hosts: tuple[str, ...]


def refusals(facts: Facts) -> tuple[str, ...]:
    """Why the gate stays shut; empty when it opens. Pure: its truth table is tested whole."""
    hosts = bool(facts.hosts) and set(facts.hosts) <= set(facts.allowed_hosts)
    conditions = (
        (facts.allow == "true", f"{ALLOW} is not true"),
        (facts.secret_matches, f"{SECRET} does not match the hash in the database"),
        (facts.class_ in ("staging", "scratch"), f"the target's class is {facts.class_ or 'unknown'}"),
        (facts.marker in ("staging", "development"), f"the database says it is {facts.marker or 'nothing'}"),
        (hosts, "the host of the connection is not in the target's database_host_allow"),
    )
    return tuple(reason for holds, reason in conditions if not holds)


def require_demo_seed(
    connection: psycopg.Connection[Any],
    target: str,
    *,
    settings: Settings | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Returns only when `connection` provably leads to a database that may be seeded.

    Raises GateRefused with every reason, ConfigError for a bad tenantproof.toml. Pass the very connection that
    will write. A database is marked with `tenantproof environment`.
    """
    known = load_settings(find_config(Path.cwd())) if settings is None else settings
    marker, stored = _marker(connection)
    facts = Facts(
        allow=environment.get(ALLOW, ""),
        secret_matches=_matches(environment.get(SECRET, ""), stored),
        class_=known.targets[target].class_ if target in known.targets else "",
        marker=marker,
        hosts=_hosts(connection),
        allowed_hosts=known.targets[target].database_host_allow if target in known.targets else (),
    )
    if reasons := refusals(facts):
        _log.warning("refused to seed target %s: %s", target, "; ".join(reasons))
        raise GateRefused(
            f"target {target!r} may not be seeded: {'; '.join(reasons)}.",
            remedy="see docs/GATES.md; on production there is none, on purpose.",
        )
    _log.warning("target %s may be seeded: it says it is %s", target, marker)


def _marker(connection: psycopg.Connection[Any]) -> tuple[str, str]:
    """(environment, hash of the secret) as the database has them; empty where it cannot say."""
    try:
        with connection.transaction():
            query = "SELECT environment, coalesce(demo_seed_hash, '') FROM tenantproof.environment"
            rows = connection.execute(query).fetchall()
    except psycopg.Error:
        return "", ""
    return (str(rows[0][0]), str(rows[0][1])) if len(rows) == 1 else ("", "")


def _hosts(connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    """libpq connects to `hostaddr` whatever `host` says, so both have to be allowed where both are given."""
    named = {connection.info.host, connection.info.get_parameters().get("hostaddr", "")} - {""}
    return tuple(sorted("local" if host.startswith(("/", "@")) else host for host in named))


def hashed(secret: str) -> str:
    """The salted scrypt hash of a secret, as the marker row keeps it. Raises UsageError for a short one."""
    if len(secret) < _SHORTEST:
        raise UsageError(
            f"{SECRET} has fewer than {_SHORTEST} characters.", remedy="make one: `openssl rand -base64 24`."
        )
    salt = secrets.token_bytes(16)
    return f"{_SCRYPT}{salt.hex()}${_scrypt(secret, salt)}"


def _matches(secret: str, stored: str) -> bool:
    salt, _, wanted = stored.removeprefix(_SCRYPT).partition("$")
    if not stored.startswith(_SCRYPT) or len(secret) < _SHORTEST:
        return False
    try:
        return hmac.compare_digest(_scrypt(secret, bytes.fromhex(salt)), wanted)
    except (ValueError, TypeError):
        return False


def _scrypt(secret: str, salt: bytes) -> str:
    return hashlib.scrypt(secret.encode(), salt=salt, n=16384, r=8, p=1, dklen=32).hex()


def mark(connection: psycopg.Connection[Any], environment: str, secret: str) -> None:
    """Writes the marker row. Production keeps no hash, and the database lets it never be anything else again.

    Raises UsageError for a short secret, GateRefused where the database refuses.
    """
    stored = None if environment == "production" else hashed(secret)
    try:
        with connection.transaction():
            connection.execute(
                "INSERT INTO tenantproof.environment (environment, demo_seed_hash) VALUES (%s, %s)"
                " ON CONFLICT (only_row) DO UPDATE SET environment = excluded.environment,"
                " demo_seed_hash = excluded.demo_seed_hash, marked_by = DEFAULT, marked_at = DEFAULT",
                [environment, stored],
            )
    except psycopg.Error as error:
        raise GateRefused(
            f"the database was not marked: {error.diag.message_primary}.",
            remedy="run `tenantproof migrate` first; what is marked as production stays production.",
        ) from None
