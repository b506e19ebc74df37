"""Whole statements that break an audit log, from the triggers that this catalog has."""

from collections.abc import Iterator

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table
from pytest_tenantproof.controls._audit import fires, records, refuses

__all__ = ["audit_placeholders"]


def audit_placeholders(catalog: Catalog, table: Table) -> Iterator[tuple[str, str]]:
    """Placeholders for faults of the log and of the triggers of `table` that write it."""
    writers = [t for t in table.triggers if records(catalog, t)]
    rows = next((t.name for t in writers if "UPDATE" in t.events), "")
    if rows:
        yield "drop_audit_trigger", f"DROP TRIGGER {rows} ON {table.name}"
        yield "weaken_audit_trigger", f"ALTER TABLE {table.name} ENABLE TRIGGER {rows}"
    for trigger in table.triggers:
        if trigger.events == ("TRUNCATE",):
            yield "drop_truncate_trigger", f"DROP TRIGGER {trigger.name} ON {table.name}"
        if "distinct from" in trigger.when.lower() and any(t.old_table and t.new_table for t in writers):
            yield "drop_key_guard", f"DROP TRIGGER {trigger.name} ON {table.name}"
    for log in catalog.audit_tables:
        yield from _log(catalog, log)
        return


def _log(catalog: Catalog, log: Table) -> Iterator[tuple[str, str]]:
    guard = next((t.name for t in log.triggers if fires(t) and refuses(catalog, t)), "")
    if guard:
        yield "drop_append_only", f"DROP TRIGGER {guard} ON {log.name}"
        yield "weaken_append_only", f"ALTER TABLE {log.name} ENABLE TRIGGER {guard}"
    clock = next((c.name for c in log.columns if c.default == "clock_timestamp()"), "")
    if clock:
        yield "audit_clock_of_transaction", f"ALTER TABLE {log.name} ALTER COLUMN {clock} SET DEFAULT now()"
    yield "audit_owner_logs_in", f"ALTER ROLE {log.owner} LOGIN"
    service = next((r for r in catalog.settings.service_roles if r in catalog.graph.roles), "")
    if service:
        yield "audit_owner_is_held", f"GRANT {log.owner} TO {service}"
