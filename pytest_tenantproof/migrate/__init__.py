"""Applies migrations in order, one transaction each, and says whether a database has them, unedited."""

from pytest_tenantproof.migrate.files import Migration, migrations_folder, read_folder
from pytest_tenantproof.migrate.ledger import Applied, Status, apply, status

__all__ = ["Applied", "Migration", "Status", "apply", "migrations_folder", "read_folder", "status"]
