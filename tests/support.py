"""Databases that many tests start from."""

import itertools
import os
import socket
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
from psycopg import sql

from pytest_tenantproof.config import Settings, load_settings
from pytest_tenantproof.target import EmbeddedPostgres, find_bin

REPOSITORY = Path(__file__).parents[1]
FAULTS = REPOSITORY / "tests" / "faults"

PROD: dict[str, Any] = {
    "name": "prod",
    "class": "live",
    "server_version": "18.6",
    "database": "app",
    "system_identifier": "1",
    "role": "auditor",
    "read_only": True,
}
"""What made-up runs say of their target."""

_count = itertools.count(1)


def create_database(server: EmbeddedPostgres, template: str = "template1", name: str = "") -> str:
    """Creates an empty database (a copy of `template`) and returns its DSN."""
    name = name or f"t{next(_count)}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        admin.execute(sql.SQL("REVOKE CREATE, TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    return server.dsn(name)


def load_faults_base(server: EmbeddedPostgres, name: str = "faults_base") -> str:
    """Loads the hardened schema of the fault benchmark as psql would, and returns its DSN."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    psql = find_bin(18).path / "psql"
    for file in ("roles.sql", "base.sql"):
        command = [str(psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(FAULTS / file), server.dsn(name)]
        subprocess.run(command, check=True, capture_output=True)
    return server.dsn(name)


def faults_settings() -> Settings:
    return load_settings(FAULTS / "tenantproof.toml")


def reference_settings() -> Settings:
    return load_settings(REPOSITORY / "tenantproof.toml")


STRICT_VARIABLE = "TENANTPROOF_TESTS_STRICT"
TOOLS = ("browser", "docker", "mounts", "node", "pgbouncer", "root", "s3rver")
"""What some tests need and not every machine has."""


def lacks(tool: str, reason: str) -> NoReturn:
    """Skips a test for want of a tool, or fails it where the environment says that this tool is there:
    TENANTPROOF_TESTS_STRICT lists names of TOOLS. So CI cannot become green by losing what it tests with."""
    wanted = set(filter(None, os.environ.get(STRICT_VARIABLE, "").replace(" ", "").split(",")))
    if tool not in TOOLS or wanted - set(TOOLS):
        pytest.fail(f"{STRICT_VARIABLE} knows {', '.join(TOOLS)}, not {', '.join(sorted(wanted | {tool}))}")
    if tool in wanted:
        pytest.fail(f"{reason} ({STRICT_VARIABLE} has {tool})")
    pytest.skip(reason)


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
