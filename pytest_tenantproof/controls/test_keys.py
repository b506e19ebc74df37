"""1xx: keys and checks that neither leak other tenants nor let a row slip through."""

import re
from collections.abc import Iterator
from typing import Any

from pglast import ast, enums
from pglast.stream import RawStream

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Index, Table
from pytest_tenantproof.catalog.recording import parsed
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import ACCESS, INTEGRITY
from pytest_tenantproof.model import Severity

_OPAQUE = frozenset({"uuid"})


_SECRET = re.compile(r"(^|_)(token|secret|nonce)(_?hash|_?digest)?$|(^|_)(hash|digest)$|(Token|Secret|Hash|Digest)$")
_RANDOM = re.compile(r"\b(gen_random_uuid|uuid_generate_v4|uuidv[47]|gen_random_bytes|nanoid|gen_ulid)\(")


def _is_opaque_key(table: Table, index: Index) -> bool:
    """A key whose values nobody chooses: random uuids, or numbers that the server draws."""
    columns = [table.column(name) for name in index.columns]
    if len(columns) != 1 or columns[0] is None:
        return False
    column = columns[0]
    drawn = column.identity or column.default.startswith("nextval(") or _RANDOM.search(column.default)
    return column.type in _OPAQUE or bool(drawn)


def _is_secret(catalog: Catalog, table: Table, name: str) -> bool:
    """A column whose values nobody can guess: drawn at random by its default, or a token, its hash or digest."""
    column = table.column(name)
    if column is None:
        return False
    called = (f.body for f in catalog.snapshot.functions if column.default.startswith(f"{f.name}("))
    return bool(_SECRET.search(name)) or any(_RANDOM.search(text) for text in (column.default, *called))


@control(
    "TP111",
    title="Unique keys of tenant tables include the tenant",
    severity=Severity.MEDIUM,
    requirement="D2",
    maps=ACCESS,
)
@falsified_by(
    "CREATE UNIQUE INDEX leaky ON {tenant_table} ({text_column}) WHERE {text_column} = 'once'",
    also=("TP901",),
)
def test_unique_keys_include_the_tenant(catalog: Catalog, findings: Findings) -> None:
    """A unique key across tenants answers 'does anybody have this?' and lets one tenant squat another's names.

    Row security does not help: uniqueness is checked on rows the caller cannot see. Primary keys made of
    random uuids or drawn numbers are fine, and so is any key that contains one, or a secret that nobody can guess.
    """
    for table in catalog.tenant_tables:
        column = catalog.tenant_column(table)
        opaque = {i.columns[0] for i in table.indexes if i.primary and _is_opaque_key(table, i)}
        for index in table.indexes:
            if not (index.unique or index.exclusion) or column is None or column.name in index.columns:
                continue
            if opaque & set(index.columns) or (index.primary and _is_opaque_key(table, index)):
                continue
            if any(_is_secret(catalog, table, name) for name in index.columns):
                continue
            kind = "exclusion constraint" if index.exclusion else "unique key"
            findings.add(table, f"{kind} {index.name} spans tenants: it lacks {column.name}")


@control(
    "TP116",
    title="Checks of tenant tables are validated, enforced, and not passed by NULL",
    severity=Severity.MEDIUM,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by(
    "ALTER TABLE {tenant_table} ADD CONSTRAINT loose CHECK ({tenant_column} IS NOT NULL) NOT VALID",
    also=("TP901",),
)
def test_checks_hold(catalog: Catalog, findings: Findings) -> None:
    """A check that was never validated says nothing of old rows; one that evaluates to NULL passes.

    A check that ties a column to the tenant (a storage path, a prefix) must have all its columns NOT NULL, and tie
    it in each of its alternatives, from the beginning of the text: `LIKE '%' || tenant` is true of every path that
    has the tenant in its last folder.
    """
    for table in (*catalog.tenant_tables, *catalog.audit_tables):
        column = catalog.tenant_column(table)
        for check in (c for c in table.constraints if c.kind == "check"):
            if not (check.validated and check.enforced):
                why = "was never validated" if check.enforced else "is NOT ENFORCED"
                findings.add(table, f"check {check.name} {why}")
            others = [c for c in table.columns if c.name in check.columns and not c.not_null]
            explicit = re.search(r"\bIS (NOT )?NULL\b|\bIS (NOT )?DISTINCT\b|COALESCE", check.definition)
            if column and column.name in check.columns and others and not explicit:
                names = ", ".join(c.name for c in others)
                findings.add(table, f"check {check.name} ties {names} to the tenant but passes where it is NULL")
            if column and column.name in check.columns and _excuses(check.definition, column.name):
                findings.add(table, f"check {check.name} ties the tenant in some alternatives only: the others pass")
            if column and column.name in check.columns and _ties_anywhere(check.definition, column.name):
                findings.add(table, f"check {check.name} finds the tenant anywhere in the text, not at its beginning")


def _ties_anywhere(definition: str, column: str) -> bool:
    """Whether the check looks for the column in a text and is not tied to the text's beginning."""
    tree = parsed(f"SELECT {definition.removeprefix('CHECK ')}")
    named = re.compile(rf"\b{re.escape(column)}\b")
    return tree is not None and any(_is_open(node) and named.search(RawStream()(node)) for node in _operators(tree))


def _operators(node: Any) -> Iterator[ast.A_Expr]:
    if isinstance(node, ast.A_Expr):
        yield node
    items = node if isinstance(node, tuple) else (getattr(node, name) for name in node)
    for item in items:
        if isinstance(item, ast.Node | tuple):
            yield from _operators(item)


def _is_open(node: ast.A_Expr) -> bool:
    """A pattern with a wildcard first, a position other than the first, any part of a text."""
    name, first = node.name[-1].sval, node.rexpr
    if isinstance(node.lexpr, ast.FuncCall) and node.lexpr.funcname[-1].sval in ("position", "strpos"):
        return not (name == "=" and RawStream()(node.rexpr) == "1")
    if node.kind == enums.A_Expr_Kind.AEXPR_OP_ANY:
        return isinstance(node.rexpr, ast.FuncCall)
    while isinstance(first, ast.A_Expr | ast.TypeCast):
        first = first.arg if isinstance(first, ast.TypeCast) else first.lexpr
    text = first.val.sval if isinstance(first, ast.A_Const) and isinstance(first.val, ast.String) else ""
    return text[:1] in ("%", "_") if name in ("~~", "~~*") else name in ("~", "~*") and text[:1] != "^"


def _excuses(definition: str, column: str) -> bool:
    """Whether the check is an OR of which one side names the tenant column and another does not."""
    tree = parsed(f"SELECT {definition.removeprefix('CHECK ')}")
    condition = tree.targetList[0].val if tree is not None and tree.targetList else None
    if not isinstance(condition, ast.BoolExpr) or condition.boolop != enums.BoolExprType.OR_EXPR:
        return False
    named = [re.search(rf"\b{re.escape(column)}\b", RawStream()(side)) is not None for side in condition.args]
    return any(named) and not all(named)


@control(
    "TP122",
    title="Partitions do not spell out tenants",
    severity=Severity.LOW,
    requirement="C1",
    maps=ACCESS,
)
@falsified_by(
    "CREATE TABLE {schema}.listed ({tenant_column} {tenant_type} NOT NULL) PARTITION BY LIST ({tenant_column})",
    also=("TP104", "TP201", "TP203", "TP501", "TP505", "TP812"),
)
def test_partitions_do_not_name_tenants(catalog: Catalog, findings: Findings) -> None:
    """The catalog is readable by every role: a partition for each tenant publishes the list of customers."""
    for table in (*catalog.tenant_tables, *catalog.audit_tables):
        column = catalog.tenant_column(table)
        if column and table.partition_key.startswith("LIST") and column.name in table.partition_key:
            findings.add(table, f"is partitioned by a list of {column.name}: its partitions name the tenants")


@control(
    "TP131",
    title="Audit events keep their order, their moment and their rows",
    severity=Severity.HIGH,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by("ALTER TABLE {audit_table} ADD COLUMN tp_local timestamp", also=("TP501", "TP502", "TP503", "TP505"))
def test_audit_columns_tell_the_truth(catalog: Catalog, findings: Findings) -> None:
    """A time without its zone means another moment in each session, and a sequence that hands out numbers in
    batches lets a later event come before an earlier one. A cascading key takes the evidence away with the row.
    """
    audited = {table.name: table for table in catalog.audit_tables}
    for table in audited.values():
        for column in table.columns:
            if column.type.startswith("timestamp") and "without time zone" in column.type:
                findings.add(table, f"{column.name} is a time without its zone")
        for key in table.constraints:
            if key.kind == "foreign" and key.on_delete not in ("NO ACTION", "RESTRICT"):
                findings.add(table, f"{key.name}: ON DELETE {key.on_delete} takes events away with their tenant")
    for sequence in catalog.snapshot.tables:
        owner = next((n for n in audited if sequence.owned_by == n or sequence.owned_by.startswith(f"{n}.")), "")
        if sequence.kind == "sequence" and owner and (sequence.cache > 1 or sequence.cycles):
            findings.add(sequence, f"numbers the events of {owner} in batches or in a cycle: later ones may come first")


@control(
    "TP124",
    title="Tenant tables survive a crash",
    severity=Severity.HIGH,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by("ALTER TABLE {leaf_table} SET UNLOGGED")
def test_tables_are_logged(catalog: Catalog, findings: Findings) -> None:
    """An unlogged table is emptied by the first crash and is on no replica."""
    for table in catalog.isolated_tables:
        if table.persistence != "permanent":
            findings.add(table, "is unlogged", fix=f"ALTER TABLE {table.name} SET LOGGED;")
