"""Whole statements that break an audit log, from the triggers that this catalog has."""

import re
from collections.abc import Iterator

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function, Table
from pytest_tenantproof.catalog.names import quoted
from pytest_tenantproof.controls._audit import OPERATION, fires, records, refuses

__all__ = ["audit_placeholders"]


def audit_placeholders(catalog: Catalog, table: Table) -> Iterator[tuple[str, str]]:
    """Placeholders for faults of the log and of the triggers of `table` that write it."""
    writers = [t for t in table.triggers if records(catalog, t)]
    rows = next((t.name for t in writers if "UPDATE" in t.events), "")
    if rows:
        yield "drop_audit_trigger", f"DROP TRIGGER {quoted(rows)} ON {table.name}"
        yield "weaken_audit_trigger", f"ALTER TABLE {table.name} ENABLE TRIGGER {quoted(rows)}"
        yield from _functions(catalog.functions[next(t.function for t in writers if t.name == rows)])
    for trigger in table.triggers:
        if trigger.events == ("TRUNCATE",):
            yield "drop_truncate_trigger", f"DROP TRIGGER {quoted(trigger.name)} ON {table.name}"
        if "distinct from" in trigger.when.lower() and any(t.old_table and t.new_table for t in writers):
            yield "drop_key_guard", f"DROP TRIGGER {quoted(trigger.name)} ON {table.name}"
    for log in catalog.audit_tables:
        yield from _log(catalog, log)
        return


def _functions(function: Function) -> Iterator[tuple[str, str]]:
    """The function that writes the events of a table, worse."""

    def with_body(body: str) -> str:
        return function.definition.replace(function.body, body) if body != function.body else ""

    nothing = "BEGIN RETURN NULL; END"
    yield "audit_writes_nothing", with_body(nothing)
    handler = "EXCEPTION WHEN OTHERS THEN RETURN NULL; END"
    yield "audit_swallows_errors", with_body(re.sub(r"\bEND\s*;?\s*$", handler, function.body.rstrip(), flags=re.I))
    skip = "BEGIN IF current_setting('app.quiet', true) = 'on' THEN RETURN NULL; END IF;"
    yield "audit_skips_on_demand", with_body(re.sub(r"\bBEGIN\b", skip, function.body, count=1, flags=re.I))
    yield "audit_without_definer", f"ALTER FUNCTION {function.signature} SECURITY INVOKER"


def _log(catalog: Catalog, log: Table) -> Iterator[tuple[str, str]]:
    guard = next((t.name for t in log.triggers if fires(t) and refuses(catalog, t)), "")
    if guard:
        yield "drop_append_only", f"DROP TRIGGER {quoted(guard)} ON {log.name}"
        yield "weaken_append_only", f"ALTER TABLE {log.name} ENABLE TRIGGER {quoted(guard)}"
        yield "audit_guard_excuses", _excused(catalog, log, guard)
    yield from _names(log)
    clock = next((c.name for c in log.columns if c.default == "clock_timestamp()"), "")
    if clock:
        yield "audit_clock_of_transaction", f"ALTER TABLE {log.name} ALTER COLUMN {quoted(clock)} SET DEFAULT now()"
    for column in log.columns:
        if column.name in OPERATION:
            yield "audit_column_renamed", f"ALTER TABLE {log.name} RENAME COLUMN {quoted(column.name)} TO tp_renamed"
            yield "audit_operation_unknown", f"ALTER TABLE {log.name} ALTER COLUMN {quoted(column.name)} DROP NOT NULL"
    yield "audit_owner_logs_in", f"ALTER ROLE {quoted(log.owner)} LOGIN"
    service = next((r for r in catalog.settings.service_roles if r in catalog.graph.roles), "")
    if service:
        yield "audit_owner_is_held", f"GRANT {quoted(log.owner)} TO {quoted(service)}"


def _excused(catalog: Catalog, log: Table, guard: str) -> str:
    """The guard, which lets the log's owner pass."""
    function = catalog.functions[next(t.function for t in log.triggers if t.name == guard)]
    excuse = f"BEGIN IF current_user = '{log.owner}' THEN RETURN old; END IF;"
    body = re.sub(r"\bBEGIN\b", excuse, function.body, count=1, flags=re.I)
    return function.definition.replace(function.body, body)


def _names(log: Table) -> Iterator[tuple[str, str]]:
    """A trigger on the log that puts another name into the column that says who it was."""
    column = next((c for c in log.columns if "actor" in c.name or "user" in c.name), None)
    nobody = {"text": "'system'", "uuid": "'00000000-0000-0000-0000-000000000000'"}.get(column.type if column else "")
    if column is None or nobody is None:
        return
    setting = "nullif(current_setting('app.on_behalf_of', true), '')"
    for name, value in (
        ("audit_believes_a_setting", f"coalesce({setting}::{column.type}, new.{column.name})"),
        ("audit_forgets_the_user", nobody),
    ):
        yield (
            name,
            f"CREATE FUNCTION {log.schema}.tp_name() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS"
            f" $$ BEGIN new.{column.name} := {value}; RETURN new; END $$;"
            f"CREATE TRIGGER tp_name BEFORE INSERT ON {log.name}"
            f" FOR EACH ROW EXECUTE FUNCTION {log.schema}.tp_name();"
            f"ALTER TABLE {log.name} ENABLE ALWAYS TRIGGER tp_name",
        )
