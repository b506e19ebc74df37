"""1xx: rows can only point at rows of the same tenant, and a schema that says so cannot be talked out of it."""

import re

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import INTEGRITY
from pytest_tenantproof.model import Severity

_ACTOR = re.compile(r"_by(_id)?$|By(Id)?$")
_DROP = "ALTER TABLE {child} DROP CONSTRAINT {link}; ALTER TABLE {child} ADD CONSTRAINT {link} FOREIGN KEY "


@control(
    "TP105",
    title="Every reference between tenant tables carries the tenant",
    severity=Severity.CRITICAL,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by(_DROP + "({link_column}) REFERENCES {link_target} ({link_target_key})", also=("TP109", "TP126"))
def test_references_carry_the_tenant(catalog: Catalog, findings: Findings) -> None:
    """A single-column key lets tenant A's row point at tenant B's: joins then show B's data under A's name.

    The key must pair the table's own tenant column with the target's own. A second, nullable copy of the
    tenant does not count: it can be left NULL or say something else.
    """
    for link in catalog.links:
        own, other = catalog.tenant_column(link.table), catalog.tenant_column(link.target)
        pairs = dict(zip(link.constraint.columns, link.constraint.target_columns, strict=True))
        if own and other and pairs.get(own.name) != other.name:
            name, kept = link.constraint.name, ", ".join(pairs)
            detail = f"{name} ({kept}) to {link.target.name} does not pair {own.name} with {other.name}"
            fix = f"replace {name} by a key on ({own.name}, {kept}) that references the same with {other.name}"
            findings.add(link.table, detail, fix=fix)


@control(
    "TP106",
    title="Every reference of a tenant table is validated and enforced",
    severity=Severity.CRITICAL,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by(_DROP + "({link_columns}) REFERENCES {link_target} ({link_target_columns}) NOT VALID")
@falsified_by("ALTER TABLE {child} ALTER CONSTRAINT {link} NOT ENFORCED", min_version=18)
@falsified_by("ALTER TABLE {child} DISABLE TRIGGER ALL", also=("TP104", "TP113", "TP115", "TP502", "TP501", "TP507"))
def test_references_hold(catalog: Catalog, findings: Findings) -> None:
    """A NOT VALID, NOT ENFORCED or trigger-disabled key stands in the catalog and stops nothing."""
    for table in (*catalog.tenant_tables, *catalog.audit_tables):
        for key in table.constraints:
            if key.kind != "foreign" or catalog.holds(key):
                continue
            why = (
                "is NOT ENFORCED"
                if not key.enforced
                else "was never validated"
                if not key.validated
                else "has its triggers disabled"
            )
            fix = f"ALTER TABLE {table.name} VALIDATE CONSTRAINT {key.name};" if not key.validated else ""
            findings.add(table, f"foreign key {key.name} {why}", fix=fix)


@control(
    "TP107",
    title="No reference of a tenant table is deferrable",
    severity=Severity.MEDIUM,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by("ALTER TABLE {child} ALTER CONSTRAINT {link} DEFERRABLE INITIALLY DEFERRED")
def test_references_are_immediate(catalog: Catalog, findings: Findings) -> None:
    """Until commit a deferred key checks nothing: triggers, policies and readers see the misaligned row."""
    for table in (*catalog.tenant_tables, *catalog.audit_tables):
        for key in table.constraints:
            if key.kind == "foreign" and key.deferrable:
                fix = f"ALTER TABLE {table.name} ALTER CONSTRAINT {key.name} NOT DEFERRABLE;"
                findings.add(table, f"foreign key {key.name} is deferrable", fix=fix)


@control(
    "TP108",
    title="Deleting or changing a parent neither wipes nor re-parents tenant rows",
    severity=Severity.HIGH,
    requirement="D3",
    maps=INTEGRITY,
)
@falsified_by(_DROP + "({link_columns}) REFERENCES {link_target} ({link_target_columns}) ON DELETE CASCADE")
@falsified_by(_DROP + "({link_columns}) REFERENCES {link_target} ({link_target_columns}) ON UPDATE CASCADE")
def test_reference_actions_are_safe(catalog: Catalog, findings: Findings) -> None:
    """CASCADE turns one delete into a lost history; SET NULL and SET DEFAULT orphan or re-parent rows.

    SET NULL is accepted where a column list keeps the tenant (and the rest of the key) out of it.
    """
    for link in catalog.links:
        key, column = link.constraint, catalog.tenant_column(link.table)
        nulled = key.on_delete_columns or key.columns
        harmless = key.on_delete == "SET NULL" and column and column.name not in nulled
        if key.on_delete not in ("NO ACTION", "RESTRICT") and not harmless:
            findings.add(link.table, f"{key.name}: ON DELETE {key.on_delete} from {link.target.name}")
        if key.on_update not in ("NO ACTION", "RESTRICT"):
            findings.add(link.table, f"{key.name}: ON UPDATE {key.on_update} from {link.target.name}")


@control(
    "TP109",
    title="No NULL switches a reference off",
    severity=Severity.HIGH,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by("ALTER TABLE {child} ALTER {tenant_column} DROP NOT NULL", also=("TP102", "TP104"))
def test_no_match_simple_hole(catalog: Catalog, findings: Findings) -> None:
    """MATCH SIMPLE skips a composite key as soon as one of its columns is NULL.

    So every column that qualifies a key (tenant and other shared ancestors) must be NOT NULL, and a table
    that hangs below others must keep at least one mandatory reference: a row without any floats free of
    the hierarchy. An optional reference is one nullable id beside columns that are all NOT NULL.
    """
    for table in catalog.tenant_tables:
        nullable = {c.name for c in table.columns if not c.not_null}
        links = [link for link in catalog.links_of(table) if not link.constraint.inherited]
        for link in links:
            holes = nullable & set(link.constraint.columns)
            own = catalog.tenant_column(table)
            if link.constraint.match == "full" or not holes or len(link.constraint.columns) == 1:
                continue
            if len(holes) > 1 or (own and own.name in holes):
                names = ", ".join(sorted(holes))
                findings.add(table, f"{link.constraint.name} is not checked where {names} is NULL")
        # Neither a tree within the table nor the person who made a row is what it hangs below.
        above = [x for x in links if x.target != table and catalog.kind(x.target) is not Kind.MEMBERSHIP]
        above = [x for x in above if not any(_ACTOR.search(name) for name in x.constraint.columns)]
        if above and all(nullable & set(link.constraint.columns) for link in above):
            detail = "no mandatory reference is left: rows can float free of the hierarchy"
            columns = sorted(nullable & set(above[-1].constraint.columns))
            fix = f"ALTER TABLE {table.name} ALTER COLUMN {columns[0]} SET NOT NULL;"
            findings.add(table, f"{detail} ({', '.join(link.constraint.name for link in above)})", fix=fix)


@control(
    "TP126",
    title="References agree on every ancestor they share",
    severity=Severity.HIGH,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by("{drop_shared_ancestor}")
def test_references_agree_on_ancestors(catalog: Catalog, findings: Findings) -> None:
    """A message of development 1 must not hang below a unit of development 2, even within one tenant.

    Where a table and its parent both name the same ancestor, the reference to the parent has to carry it.
    """
    for link in (link for link in catalog.links if link.target != link.table):
        pairs = dict(zip(link.constraint.columns, link.constraint.target_columns, strict=True))
        above = {up.target.name: up.constraint for up in catalog.links_of(link.target) if up.target != link.target}
        for side in catalog.links_of(link.table):
            shared = above.get(side.target.name)
            if shared is None or side.constraint.name == link.constraint.name or side.target == link.target:
                continue
            mine, theirs = set(side.constraint.columns), set(shared.columns)
            if not any(pairs.get(name) in theirs for name in mine - _tenants(catalog)):
                detail = f"{link.constraint.name} to {link.target.name} does not carry {side.target.name}'s key"
                findings.add(link.table, f"{detail}, which both tables hold")


def _tenants(catalog: Catalog) -> set[str]:
    return set(catalog.settings.tenant_column)


@control(
    "TP114",
    title="References that no foreign key can express are enforced by a trigger that cannot be evaded",
    severity=Severity.CRITICAL,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by("{drop_reference_trigger}")
def test_declared_references_are_enforced(catalog: Catalog, findings: Findings) -> None:
    """A polymorphic reference has only its trigger: dropped, narrowed, conditional or swallowed, it is gone.

    The trigger must fire for each row, on INSERT and UPDATE, on every column involved, and be enabled. Every way
    through its function is followed for each kind of target: a key that finds another tenant's row, a row of no
    tenant, or none must raise (before the write, no row may be returned), and no later trigger may change the key.
    What is not understood may do anything.
    """
    for reference in catalog.settings.references:
        name, _, column = reference.column.rpartition(".")
        table = catalog.tables.get(name)
        if table is None or table.column(column) is None:
            findings.add(reference.column, "declared in `references` but does not exist")
            continue
        findings.extend(catalog.reference_problems(table, column, reference))


@control(
    "TP120",
    title="No tenant table is inherited from, or copied, outside its own protection",
    severity=Severity.HIGH,
    requirement="D2",
    maps=INTEGRITY,
)
@falsified_by(
    "CREATE TABLE {schema}.archived () INHERITS ({tenant_table})",
    also=("TP102", "TP104", "TP117", "TP201", "TP203", "TP501", "TP505", "TP812"),
)
def test_no_legacy_inheritance(catalog: Catalog, findings: Findings) -> None:
    """An inheritance child has none of its parent's keys, policies or triggers, yet its rows show in it."""
    for table in catalog.of_kind(
        Kind.TENANT, Kind.MEMBERSHIP, Kind.AUDIT, Kind.REGISTRY, Kind.CHILD, Kind.UNCLASSIFIED
    ):
        for parent in table.parents if not table.is_partition else ():
            findings.add(table, f"inherits from {parent} without its keys, policies and triggers")
