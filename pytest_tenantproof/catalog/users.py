"""Which column of a table names a user."""

from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.config import Settings

__all__ = ["user_column"]


def user_column(table: Table, settings: Settings, *, is_user: bool) -> str | None:
    """The configured column of a table of memberships; else its only reference to a table of users.

    Of a table of users without that column it is the key: there a row is the user. None where none is known.
    """
    if table.column(settings.user_column):
        return settings.user_column
    key = next((c.columns for c in table.constraints if c.kind == "primary"), ())
    if is_user and len(key) == 1:
        return key[0]
    found = {
        c.columns[0]
        for c in table.constraints
        if c.kind == "foreign" and c.target in settings.user_tables and len(c.columns) == 1
    }
    return found.pop() if len(found) == 1 else None
