"""Triggers that guard the tenant of a row: what they let through, found by trying every case that must be refused.

A case is one relation of NEW, OLD and the rows looked up (same tenant or another, no such row, NULL). A trigger
refuses it if every way through its function raises or, before the write, drops the row or leaves it as it should be.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

from pytest_tenantproof.catalog.evaluate import Moment, Row, truth
from pytest_tenantproof.catalog.flow import follow, returned
from pytest_tenantproof.catalog.lookups import looked_up
from pytest_tenantproof.catalog.model import Column, Function, Table, Trigger
from pytest_tenantproof.catalog.plpgsql import assignments
from pytest_tenantproof.catalog.values import Record, Token, Value

__all__ = ["Aim", "keeps", "lets_through", "rewrites"]

_ASKS = re.compile(r"\btg_(?!op\b|when\b|level\b)", re.I)
_ANOTHER = "\0"
_ALIASES = {"integer": "int4", "bigint": "int8", "smallint": "int2", "character varying": "varchar"}


def keeps(trigger: Trigger, function: Function | None, table: Table, column: Column) -> bool:
    """Whether a row trigger on UPDATE refuses each change of the column or, before the write, puts it back."""
    if function is None or trigger.level != "ROW" or "UPDATE" not in trigger.events:
        return False
    # An UPDATE that moves a row into another partition fires AFTER DELETE and AFTER INSERT, and no AFTER UPDATE.
    if trigger.timing != "BEFORE" and (table.kind == "partitioned" or table.is_partition):
        return False
    same = (("tg_op", "UPDATE"), ("tg_when", trigger.timing), ("tg_level", trigger.level))
    rest = (function, column.name, _type(column), _is_present(column))
    # Whatever holds with the table unknown holds for all that have the trigger, and most functions only name it.
    if _keeps(_Use(trigger.timing, trigger.when, same), *rest):
        return True
    asks = _ASKS.search(f"{trigger.when} {function.body}")
    state = tuple(_state(trigger, table, "UPDATE").items()) if asks else same
    return asks is not None and _keeps(_Use(trigger.timing, trigger.when, state), *rest)


@cache
def _keeps(use: "_Use", function: Function, column: str, kind: str, present: bool) -> bool:
    """Remembered for all tables that have the same trigger."""
    one, other = (Token("tenant", name, (kind,)) for name in ("one", "other"))
    cases: list[tuple[Value, Value]] = [(one, other), (one, one)]
    if not present:
        cases += [(None, other), (one, None)]
    return all(_keeps_as(use, function, column, new, old) for new, old in cases)


def _keeps_as(use: "_Use", function: Function, column: str, new: Value, old: Value) -> bool:
    state = {**dict(use.state), "new": Record(((column, new),)), "old": Record(((column, old),))}
    ends = _ends(use.when, function, Moment(state, looked_up))
    if use.timing != "BEFORE":
        return new == old or ends == ()
    if ends is None:
        return False
    return all(word == "null" or (word in ("new", "old") and row.get(column) == old) for word, row in ends)


@dataclass(frozen=True, slots=True)
class _Use:
    """What of a trigger its function can see."""

    timing: str
    when: str
    state: tuple[tuple[str, Value], ...]


@cache
def rewrites(function: Function, column: str) -> tuple[str, ...]:
    """What a BEFORE trigger's function may put into a column of the row, NEW or another one that it returns."""
    found = list(assignments(function, column))
    for word in sorted({*(returned(function) or {}).values()} - {"", "new", "old", "null"}):
        if word.isidentifier():
            found += [value for value in assignments(function, column, word) if value.lower() not in ("new", "old")]
        else:
            found.append(word)
    return tuple(found)


def _is_present(column: Column) -> bool:
    return column.not_null and column.not_null_valid


def _ends(when: str, function: Function, at: Moment) -> tuple[tuple[str, Record], ...] | None:
    """What the trigger may leave behind: (what it returns, OLD for "old", else NEW). None where that cannot be told."""
    starts = truth(when, at) if when else True
    unasked = ("new", at.state["new"])
    ends = follow(function, at) if starts is not False and starts is not None else ()
    if ends is None:
        return None
    left = tuple((end.word, end.state["old" if end.word == "old" else "new"]) for end in ends)
    found = left + ((unasked,) if starts is not True else ())
    return tuple((word, row if isinstance(row, Record) else Record()) for word, row in found)


def _state(trigger: Trigger, table: Table, event: str) -> dict[str, Value]:
    arguments = bytes.fromhex(trigger.arguments).split(b"\0")[:-1]
    named = tuple((str(n), text.decode(errors="replace")) for n, text in enumerate(arguments))
    name = table.name.removeprefix(f"{table.schema}.").strip('"')
    return {
        "tg_op": event,
        "tg_when": trigger.timing,
        "tg_level": trigger.level,
        "tg_name": trigger.name,
        "tg_table_schema": table.schema.strip('"'),
        "tg_table_name": name,
        "tg_relname": name,
        "tg_nargs": len(arguments),
        "tg_argv": Record(named, None),
    }


def _type(column: Column) -> str:
    return _ALIASES.get(column.type, column.type)


@dataclass(frozen=True, slots=True)
class Aim:
    """One kind of a declared reference: `column` of the table holds the key of `target`, where `discriminator`
    ("" for none) is `kind`, one of `kinds`."""

    column: Column
    tenant: Column
    discriminator: str
    kind: str
    kinds: tuple[str, ...]
    target: Table
    target_tenant: Column

    @property
    def keys(self) -> tuple[Column, ...]:
        """The target's primary key, or what else is unique by itself. None where that takes more than one column."""
        unique = [i for i in self.target.indexes if i.unique and i.valid and not i.predicate and len(i.columns) == 1]
        names = [i.columns[0] for i in unique if i.primary] or [i.columns[0] for i in unique]
        return tuple(column for column in self.target.columns if column.name in names)

    def id(self, name: str) -> Token:
        return Token("id", name, (_type(self.column), *(_type(key) for key in self.keys)))

    def owner(self, name: str) -> Token:
        return Token("tenant", name, (_type(self.tenant),))

    def row(self, owner: Value, at: Value, kind: str) -> dict[str, Value]:
        fields: dict[str, Value] = {self.tenant.name: owner, self.column.name: at}
        return {**fields, **({self.discriminator: kind} if self.discriminator else {})}


@dataclass(frozen=True, slots=True)
class _Case:
    """What NEW's key finds."""

    what: str
    held: Record | None
    owner: Value


def lets_through(trigger: Trigger, function: Function, table: Table, aim: Aim, tables: Mapping[str, Table]) -> str:
    """What the trigger does not provably refuse; "" where every row's reference leads to a row of its own tenant."""
    pinned = function.setting("search_path")
    schemas = tuple(part.strip().strip('"') for part in pinned.split(",")) if pinned is not None else None
    new = aim.row(aim.owner("one"), aim.id("this"), aim.kind)
    for case in _cases(aim):
        row = Row(aim.target, frozenset(key.name for key in aim.keys), aim.id("this"), case.held)
        for event, old in _befores(aim):
            state = _state(trigger, table, event) | {"new": _record(new), "old": old}
            ends = _ends(trigger.when, function, Moment(state, looked_up, row, tables, schemas))
            if ends is None or not all(
                end == ("old", old) or _is_aligned(trigger, new, aim, case, *end) for end in ends
            ):
                return f"{case.what} on {event}"
    return ""


def _cases(aim: Aim) -> Iterator[_Case]:
    for what, owner in (
        ("a row of another tenant", aim.owner("other")),
        *(() if _is_present(aim.target_tenant) else (("a row of no tenant", None),)),
        ("what a row of the same tenant may become", aim.owner("one")),
    ):
        held: dict[str, Value] = {aim.target_tenant.name: owner, **{key.name: aim.id("this") for key in aim.keys}}
        yield _Case(what, _record(held), owner)
    yield _Case("a row that does not exist", None, None)


def _befores(aim: Aim) -> Iterator[tuple[str, Value]]:
    """(event, OLD): none, and each that differs from NEW in something that matters."""
    yield "INSERT", Record((), None)
    same = (aim.owner("one"), aim.id("this"), aim.kind)
    kinds = (*aim.kinds, _ANOTHER) if aim.discriminator else ("",)
    owners = (aim.owner("one"), aim.owner("other"), aim.owner("former"))
    for before in product(owners, (aim.id("this"), aim.id("former"), None), kinds):
        if before != same:
            yield "UPDATE", _record(aim.row(*before))


def _record(fields: Mapping[str, Value]) -> Record:
    return Record(tuple(sorted(fields.items())))


def _is_aligned(trigger: Trigger, new: Mapping[str, Value], aim: Aim, case: _Case, word: str, row: Record) -> bool:
    """Whether what is left behind is no row, or one whose reference is fine."""
    if trigger.timing == "BEFORE":
        if word == "null":
            return True
        if word != "new":
            return False
        if row.get(aim.column.name) is None:
            return True
        if any(row.get(name) != value for name, value in new.items() if name != aim.tenant.name):
            return False
        return case.owner is not None and row.get(aim.tenant.name) == case.owner
    return case.owner is not None and new[aim.tenant.name] == case.owner
