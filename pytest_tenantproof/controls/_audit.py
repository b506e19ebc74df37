"""Which triggers write the audit log, and which keep it as it is."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function, Table, Trigger
from pytest_tenantproof.catalog.plpgsql import raises_always, without_comments
from pytest_tenantproof.catalog.recording import gap
from pytest_tenantproof.catalog.tracing import Tracer

__all__ = ["OPERATION", "Recorder", "fires", "instead", "log_columns", "recorders", "records", "refuses", "unrecorded"]

OPERATION = frozenset({"op", "operation", "action", "tg_op", "event", "event_type", "command"})
"""What the column that says what was done is called."""


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


def log_columns(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """The audit tables, with their columns in order."""
    return {table.name: tuple(column.name for column in table.columns) for table in catalog.audit_tables}


def unrecorded(catalog: Catalog, trigger: Trigger, event: str) -> str:
    """Why such a write may leave no event though the trigger fires; "" where it always leaves one."""
    function = catalog.functions.get(trigger.function)
    return gap(function, event, log_columns(catalog)) if function else "does not exist"


def instead(table: Table, event: str) -> str:
    """The functions that fire on the event, to name what there is in place of a guard."""
    run = sorted({t.function for t in table.triggers if event in t.events})
    return f"; the ones there run {', '.join(run)}" if run else ""


@dataclass(frozen=True)
class Recorder:
    """A function that writes audit events, and the triggers that run it."""

    function: Function
    uses: tuple[tuple[Table, Trigger], ...]

    @property
    def events(self) -> frozenset[str]:
        return frozenset(event for _, trigger in self.uses for event in trigger.events)

    @property
    def tracer(self) -> Tracer:
        transitions: Mapping[str, str] = {t.old_table: "old" for _, t in self.uses if t.old_table} | {
            t.new_table: "new" for _, t in self.uses if t.new_table
        }
        return Tracer(self.function, transitions)


def recorders(catalog: Catalog) -> Iterator[Recorder]:
    """Every function by which triggers on tenants' tables write events."""
    found: dict[str, list[tuple[Table, Trigger]]] = {}
    for table in catalog.tenant_tables:
        for trigger in table.triggers:
            if records(catalog, trigger):
                found.setdefault(trigger.function, []).append((table, trigger))
    for signature, uses in sorted(found.items()):
        yield Recorder(catalog.functions[signature], tuple(uses))


def refuses(catalog: Catalog, trigger: Trigger) -> bool:
    """Whether the trigger does nothing but raise, before anything is changed."""
    function = catalog.functions.get(trigger.function)
    unconditional = trigger.timing == "BEFORE" and not trigger.when and not trigger.columns
    return unconditional and function is not None and raises_always(function)


def fires(trigger: Trigger) -> bool:
    """Whether it fires in ordinary sessions and under session_replication_role = replica alike."""
    return trigger.enabled == "always"
