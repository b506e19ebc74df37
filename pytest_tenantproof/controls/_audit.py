"""Which triggers write the audit log, and which keep it as it is."""

import re
from functools import cache

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function, Trigger
from pytest_tenantproof.catalog.plpgsql import raises_always, without_comments

__all__ = ["fires", "records", "refuses"]


def records(catalog: Catalog, trigger: Trigger) -> bool:
    """Whether the trigger's function inserts into an audit table and sees every row (no WHEN, no column list)."""
    function = catalog.functions.get(trigger.function)
    if function is None or trigger.when or trigger.columns:
        return False
    sees = trigger.level == "ROW" or bool(trigger.old_table or trigger.new_table) or trigger.events == ("TRUNCATE",)
    return sees and _inserts(function, tuple(table.name for table in catalog.audit_tables))


@cache
def _inserts(function: Function, tables: tuple[str, ...]) -> bool:
    text = without_comments(function.body)
    return any(re.search(rf"\binsert into {re.escape(name)}\b", text, re.I) for name in tables)


def refuses(catalog: Catalog, trigger: Trigger) -> bool:
    """Whether the trigger does nothing but raise, before anything is changed."""
    function = catalog.functions.get(trigger.function)
    unconditional = trigger.timing == "BEFORE" and not trigger.when and not trigger.columns
    return unconditional and function is not None and raises_always(function)


def fires(trigger: Trigger) -> bool:
    """Whether it fires in ordinary sessions and under session_replication_role = replica alike."""
    return trigger.enabled == "always"
