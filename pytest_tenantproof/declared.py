"""What the catalog should be: the migrations applied to an empty server, or an approved lock file."""

from dataclasses import dataclass

import psycopg

from pytest_tenantproof.catalog import Snapshot, from_json, read_snapshot
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import CatalogError, MigrationError, TargetUnreachable
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import find_bin, start

__all__ = ["Declared", "declared_catalog"]


@dataclass(frozen=True, slots=True)
class Declared:
    """The declared snapshot, or why there is none. `source` says where it comes from."""

    snapshot: Snapshot | None
    source: str
    reason: str = ""


def declared_catalog(settings: Settings, major: int, *, shipped: bool = False) -> Declared:
    """From the migrations on an empty embedded server of that major version, else from the lock.

    With `shipped`, the migrations that come with this package stand in for a product's own.
    """
    folder = settings.root / settings.migrations
    if not folder.is_dir() and shipped:
        folder = migrations_folder()
    lock = settings.root / settings.lock
    problem = f"there is no folder {settings.migrations}/"
    if folder.is_dir():
        try:
            with start(find_bin(major)) as server:
                apply(server.dsn(), folder)
                with psycopg.connect(server.dsn(), autocommit=True) as connection:
                    return Declared(read_snapshot(connection), f"{folder.name}/ on PostgreSQL {server.bin.version}")
        except (MigrationError, TargetUnreachable) as error:
            problem = f"{folder.name}/ could not be applied to an empty PostgreSQL {major}: {error.message}"
    if not lock.is_file():
        return Declared(None, "", f"{problem}, and there is no {settings.lock}")
    try:
        snapshot = from_json(lock.read_bytes())
    except (OSError, CatalogError) as error:
        return Declared(None, "", f"{settings.lock} cannot be used: {error}")
    if snapshot.major != major:
        return Declared(None, "", f"{settings.lock} is of PostgreSQL {snapshot.major}, the target of {major}")
    return Declared(snapshot, settings.lock)
