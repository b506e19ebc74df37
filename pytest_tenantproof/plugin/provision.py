"""Gives the built-in targets something to prove: a private server with the product's migrations and demo data."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from pytest_tenantproof.config import Settings
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.errors import TargetUnreachable
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import embedded

__all__ = ["Provisioned", "migrations_of", "provision"]

_IMAGE = "postgres:18-alpine"


@dataclass(frozen=True, slots=True)
class Provisioned:
    dsn: str
    stop: Callable[[], None]


def provision(target: str, settings: Settings, say: Callable[[str], None]) -> Provisioned:
    """Where the target is: a fresh server for `embedded` and `container`, else its DSN from the environment.

    Raises TargetUnreachable, MigrationError or ConfigError.
    """
    if target == "embedded":
        say("starting an embedded Postgres")
        server = embedded.start()
        return _filled(Provisioned(server.dsn(), server.stop), target, settings, say)
    if target == "container":
        say(f"starting a container of {_IMAGE}")
        return _filled(_container(), target, settings, say)
    return Provisioned(settings.dsn(target), lambda: None)


def migrations_of(settings: Settings, target: str) -> Path:
    """The configured folder. The built-in targets fall back on the shipped product where there is none."""
    folder = settings.root / settings.migrations
    own = bool(settings.migrations) and folder.is_dir()
    return folder if own or target not in ("embedded", "container") else migrations_folder()


def _filled(where: Provisioned, target: str, settings: Settings, say: Callable[[str], None]) -> Provisioned:
    try:
        chosen = migrations_of(settings, target)
        say(f"applying {chosen.name}/ and loading demo data")
        apply(where.dsn, chosen)
        load_demo(where.dsn)
        with psycopg.connect(where.dsn, autocommit=True) as connection:
            connection.execute("ANALYZE")
    except BaseException:
        where.stop()
        raise
    return where


def _container() -> Provisioned:
    from testcontainers.community.postgres import PostgresContainer

    try:
        box: Any = PostgresContainer(
            _IMAGE, username="postgres", password=secrets.token_urlsafe(12), dbname="postgres", driver=None
        )
        box.start()
    except Exception as error:
        raise TargetUnreachable(
            f"no container could be started: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}.",
            remedy="start Docker (check `docker info`), or use --evidence=embedded, which needs none.",
        ) from error
    return Provisioned(box.get_connection_url(), box.stop)
