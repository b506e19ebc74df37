"""9xx: production is what was reviewed: the deployed catalog equals the declared one."""

import dataclasses

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.compare import differences
from pytest_tenantproof.catalog.model import Snapshot
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import CHANGE
from pytest_tenantproof.declared import Declared
from pytest_tenantproof.model import Severity


def _compare(catalog: Catalog, declared: Declared, findings: Findings, *, weakens: bool) -> None:
    if declared.snapshot is None:
        findings.not_run(f"{declared.reason}; record an approved catalog with `tenantproof init --lock`")
    logs = catalog.settings.audit_tables
    wanted, there = (_without_months(snapshot, logs) for snapshot in (declared.snapshot, catalog.snapshot))
    found = differences(wanted, there, catalog.settings.schemas, catalog.is_admin)
    for difference in found:
        if difference.weakens is weakens:
            findings.add(difference.object, f"{difference.detail} (declared by {declared.source})")


def _without_months(snapshot: Snapshot, logs: tuple[str, ...]) -> Snapshot:
    """Without the partitions of audit logs, which come with time: TP201, TP203, TP503 and TP506 judge each."""
    months = {t.name for t in snapshot.tables if t.is_partition and t.parents[0] in logs}
    months -= {t.name for t in snapshot.tables if t.partition_bound == "DEFAULT"}
    return dataclasses.replace(snapshot, tables=tuple(t for t in snapshot.tables if t.name not in months))


@control(
    "TP911",
    title="Protections are deployed as declared",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=CHANGE,
)
@falsified_by("ALTER TABLE {tenant_table} NO FORCE ROW LEVEL SECURITY", also=("TP203",))
@falsified_by("{disable_freeze_trigger}", also=("TP113", "TP115", "TP116"))
@falsified_by(
    "CREATE ROLE tp_stranger; GRANT SELECT ON {tenant_table} TO tp_stranger", also=("TP205", "TP207", "TP213")
)
def test_protections_as_declared(catalog: Catalog, declared: Declared, findings: Findings) -> None:
    """A hotfix by hand, a failed migration or an intruder changes what no review has seen.

    Policies, row security, constraints, triggers and their functions, grants, roles and settings are compared
    one by one with what the migrations make of an empty server (or with tenantproof.lock). Put the change into
    a migration, or take it back.
    """
    _compare(catalog, declared, findings, weakens=True)


@control("TP912", title="Structure is deployed as declared", severity=Severity.MEDIUM, requirement="A1", maps=CHANGE)
@falsified_by("ALTER TABLE {tenant_table} ADD COLUMN tp_undeclared text", also=("TP911",))
@falsified_by("ALTER TABLE {tenant_table} ALTER COLUMN {text_column} SET DEFAULT 'other'", also=("TP911",))
def test_structure_as_declared(catalog: Catalog, declared: Declared, findings: Findings) -> None:
    """Columns, types and sequences that no migration knows are lost by the next restore into a declared schema,
    and escape the reviews that migrations get. Write the migration that makes them.
    """
    _compare(catalog, declared, findings, weakens=False)
