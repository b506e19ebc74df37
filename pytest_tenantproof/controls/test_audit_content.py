"""5xx: an audit event says who did what to which row of which tenant, and can be written."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.expressions import is_constant
from pytest_tenantproof.catalog.model import PUBLIC, Column, Constraint, Table
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._audit import OPERATION, recorders
from pytest_tenantproof.controls._content import HASHES, Written, content_problems, written
from pytest_tenantproof.controls._maps import LOGGING
from pytest_tenantproof.model import Severity

_FACTS = ("clock_timestamp()", "now()", "pg_current_xact_id()", "txid_current()")
_WHO = frozenset({"session_user", "current_user", "current_role", "user"})
_WHERE = frozenset({"tg_op", "tg_table_name", "tg_relname", "tg_table_schema", "tg_relid"})
_NAMES = ("actor", "user", "role", "who", "principal")


@control(
    "TP509",
    title="Audit events come from the row itself, and are whole",
    severity=Severity.HIGH,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{audit_column_renamed}")
def test_audit_content(catalog: Catalog, findings: Findings) -> None:
    """An event under another tenant, without what the row was, or with a hash that covers half of it proves nothing.

    Each value that an audit function inserts is traced to where it comes from: the tenant from the row and not from
    a claim or setting, nor the time from one; images by to_jsonb of the whole row; operation and table from the
    trigger; a hash over the images and the hash before it, read under a lock. The INSERT must fit the table, or every
    audited write fails.
    """
    writing = tuple(recorders(catalog))
    if not writing and catalog.audit_tables:
        findings.not_run("no trigger that is understood writes an audit event")
    if not writing:
        findings.not_applicable("there is no audit log")
    for recorder in writing:
        for table, problem in content_problems(catalog, recorder):
            findings.add(table, f"{recorder.function.signature} {problem}")


@control(
    "TP510",
    title="No audit event can be without who, what, where, when and whose",
    severity=Severity.HIGH,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{audit_operation_unknown}")
def test_audit_facts_are_not_null(catalog: Catalog, findings: Findings) -> None:
    """A NULL is where an investigation ends. NOT NULL has to hold for the tenant, the time and transaction, the
    operation and table, a hash, and for one column at least that says who it was whoever it was: for a job
    without claims the database role. The operation is limited to known ones, by a CHECK or an enum.
    """
    filled = {name for r in recorders(catalog) for each in written(catalog, r) for name in _facts(each)}
    written_columns = {name for r in recorders(catalog) for each in written(catalog, r) for name in each.origins}
    enums = {t.name for t in catalog.snapshot.types if t.kind == "enum"}
    for table in catalog.audit_tables:
        tenant = catalog.tenant_column(table)
        for column in table.columns:
            fact = column.name in filled or column.default.lower() in (*_FACTS, *_WHO) or column == tenant
            if fact and not (column.not_null and column.not_null_valid):
                fix = f"ALTER TABLE {table.name} ALTER COLUMN {column.name} SET NOT NULL;"
                findings.add(table, f"{column.name} may be NULL", fix=fix)
            limited = column.type in enums or any(column.name in c.columns for c in _checks(table))
            if column.name in OPERATION and not limited:
                findings.add(table, f"{column.name} may hold anything: no CHECK limits it to operations")
            if problem := _anybody(catalog, column) if column.name not in written_columns else "":
                findings.add(table, f"{column.name} says who it was, and {problem}")
        if not any(_says_who(column) for column in table.columns):
            findings.add(table, "no NOT NULL column says who it was")


def _checks(table: Table) -> Iterator[Constraint]:
    return (c for c in table.constraints if c.kind == "check" and c.validated and c.enforced)


def _facts(each: Written) -> Iterator[str]:
    for name in each.origins:
        if each.says(name, _WHERE) or each.calls(name) & (HASHES | _WHO):
            yield name


def _anybody(catalog: Catalog, column: Column) -> str:
    """What is wrong with the default of a column that nothing else fills, where it says who somebody was."""
    text = column.default.lower()
    if not text or not any(word in column.name.lower() for word in _NAMES):
        return ""
    if is_constant(text):
        return "has a constant default"
    named = re.findall(r"current_setting\('([^']+)'", text)
    untrusted = [name for name in named if not any(fnmatchcase(name, t) for t in catalog.settings.trusted_settings)]
    return f"its default is the setting {untrusted[0]}, which the writer may set" if untrusted else ""


def _says_who(column: Column) -> bool:
    by_name = any(word in column.name.lower() for word in _NAMES)
    return column.not_null and (column.default.lower() in _WHO or by_name)


@control(
    "TP511",
    title="Audit functions may write the log, and nobody else has to",
    severity=Severity.HIGH,
    requirement="C3",
    maps=LOGGING,
)
@falsified_by("{audit_without_definer}")
def test_audit_functions_may_write(catalog: Catalog, findings: Findings) -> None:
    """An audit function that may not insert makes every write fail, or, where somebody caught that, go unrecorded.
    It must be SECURITY DEFINER, so that no writer needs rights on the log, and its owner must hold INSERT and get
    past row security, by a policy where that is forced.
    """
    for recorder in recorders(catalog):
        function = recorder.function
        if not function.security_definer:
            fix = f"ALTER FUNCTION {function.signature} SECURITY DEFINER;"
            findings.add(function, "runs with the writer's rights, who would need to write the log by hand", fix=fix)
            continue
        for name in sorted({each.table for each in written(catalog, recorder)}):
            if problem := _refused(catalog, catalog.tables[name], function.owner):
                findings.add(function, f"its owner {function.owner} {problem} {name}", role=function.owner)


def _refused(catalog: Catalog, table: Table, role: str) -> str:
    """Why the role may not insert into the table; "" where it may."""
    found, acts = catalog.graph.roles.get(role), catalog.graph.acts_as(role)
    if found is None or found.superuser:
        return ""
    if table.owner not in acts and "INSERT" not in catalog.graph.granted(table.grants, role):
        return "has no right to insert into"
    free = found.bypass_rls or not table.row_security or (table.owner in acts and not table.row_security_forced)
    admits = any(
        p.permissive and p.command in ("ALL", "INSERT") and set(p.roles) & {*acts, PUBLIC} for p in table.policies
    )
    return "" if free or admits else "gets no event past the row security of"
