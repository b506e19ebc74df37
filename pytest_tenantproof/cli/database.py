"""init, migrate: what a database is like, and its migrations."""

import argparse
from pathlib import Path

from pytest_tenantproof.cli.base import Answer, Verb, settings_of, target_arguments

__all__ = ["VERBS"]


def _migrate(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.migrate import apply, migrations_folder

    settings = settings_of(options)
    settings.target(options.target)
    folder = settings.root / settings.migrations
    applied = apply(settings.dsn(options.target, "WRITER"), folder if folder.is_dir() else migrations_folder())
    names = [f"{a.version}_{a.name}" for a in applied]
    return 0, {"applied": names}, [f"applied {name}" for name in names] or ["nothing is pending"]


def _init(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof import init

    return init.run(options.dsn, Path(options.dir), lock=options.lock, settings=settings_of(options))


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dsn", help="the database to look at (default: TENANTPROOF_INIT_DSN)")
    parser.add_argument("--dir", default=".", help="where the files go (default: here)")
    parser.add_argument("--lock", action="store_true", help="record the database's catalog as tenantproof.lock")
    parser.add_argument("--config", metavar="FILE", help="another tenantproof.toml")


VERBS = {
    "init": Verb(
        "look at a database, write tenantproof.toml and .env.example",
        "TENANTPROOF_INIT_DSN=postgresql://me@db/app tenantproof init",
        _init,
        _init_arguments,
    ),
    "migrate": Verb(
        "apply migrations in order, one transaction each",
        "tenantproof migrate --target staging",
        _migrate,
        target_arguments,
    ),
}
