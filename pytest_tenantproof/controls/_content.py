"""What is wrong with the values that audit functions write."""

from collections.abc import Iterator
from typing import Any

from pglast import ast

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Column, Table
from pytest_tenantproof.catalog.plpgsql import without_comments
from pytest_tenantproof.catalog.recording import Recording, recordings
from pytest_tenantproof.catalog.tracing import Origin
from pytest_tenantproof.controls._audit import OPERATION, Recorder, log_columns

__all__ = ["HASHES", "Written", "content_problems", "written"]

HASHES = frozenset(
    {"sha224", "sha256", "sha384", "sha512", "md5", "digest", "hmac", "public.digest", "public.hmac"}
) | {
    "extensions.digest",
    "extensions.hmac",
}
_WHOLE = frozenset({"to_jsonb", "to_json", "row_to_json"})
_HERE = frozenset({"tg_table_name", "tg_relname", "tg_relid", "tg_argv"})
_LOCKS = ("advisory_xact_lock", "lock table", "for update")


class Written:
    """One recording of a function: where the value of each column comes from."""

    def __init__(self, recorder: Recorder, recording: Recording) -> None:
        tracer = recorder.tracer
        self.recorder, self.table = recorder, recording.table
        self.origins: dict[str, list[Origin]] = {
            column: [tracer.origin(value, recording.select) for value in values]
            for column, values in recording.values.items()
        }

    def calls(self, column: str) -> set[str]:
        return {call for origin in self.origins.get(column, ()) for call in origin.calls}

    def names(self, column: str) -> set[str]:
        return {name for origin in self.origins.get(column, ()) for name in origin.names}

    def says(self, column: str, facts: frozenset[str]) -> bool:
        """Whether the column holds one of the trigger's facts itself: nothing of a row, nor what a function of the
        database made of it."""
        made = any(call in HASHES or "." in call for call in self.calls(column))
        return bool(self.names(column) & facts) and not self.rows(column) and not made

    def rows(self, column: str) -> set[str]:
        return {row for origin in self.origins.get(column, ()) for row in origin.rows}


def written(catalog: Catalog, recorder: Recorder) -> list[Written]:
    """Everything that the function writes to audit tables."""
    return [Written(recorder, each) for each in recordings(recorder.function, log_columns(catalog))]


def content_problems(catalog: Catalog, recorder: Recorder) -> Iterator[tuple[Table, str]]:
    """(audit table, what is wrong) for the function."""
    found = written(catalog, recorder)
    for each in found:
        table = catalog.tables[each.table]
        for problem in (
            *_fit(each, table),
            *_tenant(each, catalog.tenant_column(table), catalog),
            *_clock(each, table),
            *_images(each, table),
            *_what(each, table),
            *_chain(each, table),
        ):
            yield table, problem
    for name in {column for each in found for column in each.origins}:
        if all(o.empty for each in found for o in each.origins.get(name, ())):
            yield catalog.tables[found[0].table], f"always leaves {name} empty"


def _fit(each: Written, table: Table) -> Iterator[str]:
    for name in each.origins:
        if table.column(name) is None:
            yield f"writes a column {name} that is not there: every audited write fails"
    for column in table.columns:
        given = column.default or column.generated or column.identity or column.name in each.origins
        if column.not_null and not given:
            yield f"gives {column.name} no value, which must have one: every audited write fails"


def _tenant(each: Written, column: Column | None, catalog: Catalog) -> Iterator[str]:
    if column is None or column.name not in each.origins or each.recorder.events == {"TRUNCATE"}:
        return
    own = {f.name for f in catalog.own_functions}
    foreign = {c for c in each.calls(column.name) if c == "current_setting" or c in own}
    if foreign or not each.rows(column.name):
        how = f", by {', '.join(sorted(foreign))}" if foreign else ""
        yield f"takes {column.name} from elsewhere than the row{how}"


def _clock(each: Written, table: Table) -> Iterator[str]:
    for column in table.columns:
        if column.type.startswith("timestamp") and "current_setting" in each.calls(column.name):
            yield f"takes {column.name} from a setting, which a session may choose"


def _images(each: Written, table: Table) -> Iterator[str]:
    for column in table.columns:
        rows = each.rows(column.name)
        if not column.type.startswith("json") or not rows:
            continue
        for origin in each.origins[column.name]:
            if not all(_whole(end) for node in origin.ends for end in _results(node)):
                yield f"does not keep the whole row in {column.name}"
        for word, other in (("old", "new"), ("new", "old")):
            if word in column.name.lower().split("_") and rows == {other}:
                yield f"keeps the {other} row in {column.name}"


def _results(node: Any) -> Iterator[Any]:
    """What CASE and COALESCE may give."""
    while isinstance(node, ast.TypeCast):
        node = node.arg
    if isinstance(node, ast.CaseExpr):
        for item in (*(when.result for when in node.args), *([node.defresult] if node.defresult else [])):
            yield from _results(item)
    elif isinstance(node, ast.CoalesceExpr):
        for item in node.args:
            yield from _results(item)
    else:
        yield node


def _whole(node: Any) -> bool:
    if isinstance(node, ast.A_Const):
        return bool(node.isnull)
    call = isinstance(node, ast.FuncCall) and node.funcname[-1].sval in _WHOLE and len(node.args or ()) >= 1
    return (
        call
        and isinstance(node.args[0], ast.ColumnRef)
        and (len(node.args[0].fields) == 1 or isinstance(node.args[0].fields[-1], ast.A_Star))
    )


def _what(each: Written, table: Table) -> Iterator[str]:
    names = {name for column in each.origins for name in each.names(column)}
    for column in table.columns:
        constant = any(origin.texts and not origin.names for origin in each.origins.get(column.name, ()))
        branched = "tg_op" in without_comments(each.recorder.function.body).lower() and "tg_op" not in names
        if column.name in OPERATION and constant and len(each.recorder.events) > 1 and not branched:
            yield f"writes the same {column.name} for {', '.join(sorted(each.recorder.events))}"
    tables = {used.name for used, _ in each.recorder.uses}
    if len(tables) > 1 and not any(each.says(column, _HERE) for column in each.origins):
        yield f"does not say which of {len(tables)} tables was written"


def _chain(each: Written, table: Table) -> Iterator[str]:
    """A hash has to cover the rows and the hash before it, which nobody else may be writing meanwhile."""
    images = {row for c in table.columns if c.type.startswith("json") for row in each.rows(c.name)}
    for name in each.origins:
        if not each.calls(name) & HASHES:
            continue
        if left := images - each.rows(name):
            yield f"hashes without the {' and '.join(sorted(left))} row"
        linked = any(name in each.names(other) for other in each.origins if other != name)
        if linked and name not in each.names(name):
            yield f"hashes without the {name} before it"
        body = without_comments(each.recorder.function.body).lower()
        if linked and not any(lock in body for lock in _LOCKS):
            yield f"reads the {name} before it without a lock: two writers continue from the same one"
