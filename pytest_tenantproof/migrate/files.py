"""Migration files: `<version>_<name>.sql`, applied in the order of their versions."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pytest_tenantproof.errors import MigrationError

__all__ = ["Migration", "migrations_folder", "read_folder"]

_NAME = re.compile(r"(\d+)_([A-Za-z0-9_.-]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `version` is its number as written; `sha256` is over its bytes."""

    version: str
    name: str
    sql: str
    sha256: str


def migrations_folder() -> Path:
    """The shipped migrations: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).parents[1] / "_migrations"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "migrations"


def read_folder(folder: Path) -> tuple[Migration, ...]:
    """The migrations of a folder by version. Raises MigrationError for a bad name, a double or an empty folder."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is no migration's name.", remedy="name it <number>_<words>.sql.")
        data = path.read_bytes()
        migration = Migration(match[1], match[2], data.decode("utf-8"), hashlib.sha256(data).hexdigest())
        if int(match[1]) in found:
            raise MigrationError(f"version {match[1]} occurs twice in {folder}.", remedy="renumber one of them.")
        found[int(match[1])] = migration
    if not found:
        raise MigrationError(f"{folder} holds no migration.", remedy="set `migrations` in tenantproof.toml.")
    return tuple(found[version] for version in sorted(found))
