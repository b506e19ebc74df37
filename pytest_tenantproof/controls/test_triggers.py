"""1xx: triggers that guard tenancy exist, fire, and do what their name says."""

from collections import defaultdict
from collections.abc import Iterator

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.expressions import same_expression
from pytest_tenantproof.catalog.guards import keeps, rewrites
from pytest_tenantproof.catalog.model import Table, Trigger
from pytest_tenantproof.catalog.references import enforcers
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._bound import writers
from pytest_tenantproof.controls._maps import INTEGRITY
from pytest_tenantproof.model import Severity


def _fires(trigger: Trigger, column: str) -> bool:
    """Whether a row trigger fires on every update of the column, in ordinary sessions, at once."""
    return (
        trigger.timing in ("BEFORE", "AFTER")
        and trigger.level == "ROW"
        and "UPDATE" in trigger.events
        and trigger.enabled in ("origin", "always")
        and not trigger.deferrable
        and (not trigger.columns or column in trigger.columns)
    )


@control(
    "TP113",
    title="A row's tenant cannot be changed",
    severity=Severity.HIGH,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by("{drop_freeze_trigger}")
@falsified_by("{disable_freeze_trigger}", also=("TP115",))
def test_tenant_is_immutable(catalog: Catalog, findings: Findings) -> None:
    """Moving a row to another tenant hands it over, and everything that refers to it with it.

    Policies stop a client; roles that bypass row security need a row trigger on UPDATE that raises when the
    tenant changes, or (BEFORE) puts it back or returns no row. Every way through its function is followed, and its
    WHEN: a condition that is not understood may hold or not, a handler may catch what was raised, and ASSERT can be
    switched off. A partitioned table needs a trigger BEFORE the write: a row that moves to another partition fires no
    AFTER UPDATE. Needed wherever a client or back-end role may update the column.
    """
    for table in catalog.tenant_tables:
        column = catalog.tenant_column(table)
        if column is None or column.generated or not writers(catalog, table, column.name):
            continue
        live = [t for t in table.triggers if _fires(t, column.name)]
        if not any(keeps(t, catalog.functions.get(t.function), table, column) for t in live):
            run = sorted({t.function for t in table.triggers if "UPDATE" in t.events})
            instead = f"; the ones there run {', '.join(run)}" if run else ""
            findings.add(table, f"no row trigger on UPDATE provably keeps {column.name} as it is{instead}")


@control(
    "TP115",
    title="No trigger on tenant data is switched off, or weaker than its siblings",
    severity=Severity.HIGH,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by("ALTER TABLE {tenant_table} DISABLE TRIGGER USER", also=("TP113", "TP501", "TP502", "TP507"))
def test_triggers_are_enabled(catalog: Catalog, findings: Findings) -> None:
    """A disabled trigger still shows in every listing; one enabled for replicas only never fires for users.

    Where most tables fire a guard ALWAYS, the odd one that fires in ordinary sessions only is reported too:
    `session_replication_role = replica` switches it off.
    """
    kinds = (Kind.TENANT, Kind.MEMBERSHIP, Kind.REGISTRY, Kind.AUDIT, Kind.DERIVED, Kind.CHILD, Kind.USER)
    fleet: dict[str, list[tuple[Table, Trigger]]] = defaultdict(list)
    for table in catalog.of_kind(*kinds):
        for trigger in table.triggers:
            fleet[trigger.function].append((table, trigger))
            if trigger.enabled in ("disabled", "replica"):
                fix = f"ALTER TABLE {table.name} ENABLE ALWAYS TRIGGER {trigger.name};"
                findings.add(table, f"trigger {trigger.name} is {trigger.enabled}", fix=fix)
    for uses in fleet.values():
        always = sum(trigger.enabled == "always" for _, trigger in uses)
        for table, trigger in uses:
            if trigger.enabled == "origin" and always * 2 > len(uses):
                fix = f"ALTER TABLE {table.name} ENABLE ALWAYS TRIGGER {trigger.name};"
                findings.add(table, f"trigger {trigger.name} is not enabled ALWAYS as its siblings are", fix=fix)
    for table, trigger in _lone_guards(catalog):
        fix = f"ALTER TABLE {table.name} ENABLE ALWAYS TRIGGER {trigger.name};"
        findings.add(table, f"trigger {trigger.name} is not enabled ALWAYS as the table's other guards are", fix=fix)


def _lone_guards(catalog: Catalog) -> Iterator[tuple[Table, Trigger]]:
    """Triggers that enforce a declared reference in ordinary sessions only, where all others of the table do always."""
    for reference in catalog.settings.references:
        table = catalog.tables.get(reference.column.rpartition(".")[0])
        guards = enforcers(table, reference, catalog.functions) if table else []
        others = [t for t in (table.triggers if table else ()) if t not in guards]
        if table and others and all(t.enabled == "always" for t in others):
            yield from ((table, trigger) for trigger in guards if trigger.enabled == "origin")


@control(
    "TP125",
    title="No trigger rewrites a row's tenant",
    severity=Severity.HIGH,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by("{add_rewriting_trigger}", also=("TP901",))
def test_no_trigger_rewrites_the_tenant(catalog: Catalog, findings: Findings) -> None:
    """A BEFORE trigger that assigns the tenant, or returns another row, runs after checks that sort before it, and
    past every policy.

    Assigning the caller's own tenant (a trusted expression) or the old value is fine.
    """
    s = catalog.settings
    trusted = (*s.trusted_tenant_expressions, *s.trusted_user_expressions)
    for table in (*catalog.tenant_tables, *catalog.audit_tables):
        column = catalog.tenant_column(table)
        for trigger in table.triggers:
            function = catalog.functions.get(trigger.function)
            if column is None or function is None or trigger.timing != "BEFORE" or trigger.level != "ROW":
                continue
            allowed = (*trusted, f"old.{column.name}", f"new.{column.name}", *_guarded(trusted, column.name))
            for value in rewrites(function, column.name):
                if not any(same_expression(value, text) for text in allowed):
                    findings.add(table, f"trigger {trigger.name} assigns {column.name} by {function.signature}")


def _guarded(trusted: tuple[str, ...], column: str) -> list[str]:
    return [f"coalesce(new.{column}, {text})" for text in trusted]


@control(
    "TP127",
    title="No rewrite rule acts on tenant tables or views",
    severity=Severity.HIGH,
    requirement="A1",
    maps=INTEGRITY,
)
@falsified_by("CREATE RULE copy AS ON DELETE TO {tenant_table} DO ALSO SELECT 1", also=("TP901",))
def test_no_rewrite_rules(catalog: Catalog, findings: Findings) -> None:
    """A rule rewrites the statement with its owner's rights: rows are copied, redirected or dropped unseen."""
    for table in catalog.snapshot.tables:
        watched = catalog.kind(table) not in (Kind.TOOL, Kind.GLOBAL) and not table.extension
        for rule in table.rules:
            if watched and (table.schema in catalog.settings.schemas or catalog.kind(table) is not Kind.UNCLASSIFIED):
                fix = f"DROP RULE {rule.name} ON {table.name};"
                findings.add(table, f"rule {rule.name} rewrites {rule.event} with the owner's rights", fix=fix)
