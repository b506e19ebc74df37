"""Views and functions: what they tell an attacker of another tenant's rows, and what a call does to them."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import psycopg

from pytest_tenantproof.catalog.model import Function, Table
from pytest_tenantproof.catalog.plpgsql import exit_of
from pytest_tenantproof.probes.attacks import Attempt, Breach
from pytest_tenantproof.probes.identities import Identity
from pytest_tenantproof.probes.rows import Row
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.probes.stage import Stage
from pytest_tenantproof.probes.values import Values, literal

__all__ = ["attack_function", "attack_view", "attackable"]

_TOKEN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|tp[0-9a-z]{5,}", re.I)
_VARIANTS = 12
_WAITED = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


@dataclass(frozen=True, slots=True)
class _Call:
    """A function and SQL of its arguments."""

    function: Function
    arguments: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.function.name}({', '.join(self.arguments)})"

    def sql(self, tokens: list[str]) -> str:
        if self.function.kind == "procedure":
            return f"CALL {self.text}"
        told = [literal(f"%{t}%") for t in tokens if not any(t in value for value in self.arguments)]
        return f"SELECT count(*) FROM {self.text} f WHERE f::text LIKE ANY (ARRAY[{', '.join(told)}]::text[])"


def attackable(stage: Stage, function: Function) -> bool:
    """Whether a client could call it: exposed or a definer's, and no trigger; nothing that reaches out is called."""
    catalog = stage.catalog
    plain = function.kind in ("function", "procedure") and function.returns not in (
        "trigger",
        "event_trigger",
        "internal",
    )
    exposed = function.schema in catalog.settings.exposed or function.security_definer
    return plain and exposed and not any(exit_of(each) for each in catalog.called_by(function))


def attack_view(stage: Stage, view: Table) -> Iterator[Attempt]:
    """Looks for the victim's values in what the view shows."""
    tokens = ", ".join(literal(f"%{token}%") for token in _tokens(stage))
    if not tokens:
        return
    sql = f"SELECT count(*) FROM {view.name} v WHERE v::text LIKE ANY (ARRAY[{tokens}])"
    for identity in stage.identities:
        if "SELECT" in stage.catalog.privileges(view, identity.role):
            yield _attempt(stage, view.name, identity, sql, "read another tenant's row through the view")


def attack_function(stage: Stage, function: Function) -> Iterator[Attempt]:
    """Calls it as everybody with the victim's tenant, and as a few with the keys of the victim's rows."""
    tokens, calls = _tokens(stage), _calls(stage, function)
    who = [identity for identity in stage.identities if stage.catalog.callable_by(function, identity.role)]
    few = [identity for identity in who if identity.name in stage.plain]
    writes = any(f.volatility == "volatile" for f in stage.catalog.called_by(function))
    told = "was told of another tenant's row by the function"
    for identity in who:
        yield _attempt(stage, function.signature, identity, calls[0].sql(tokens), told)
    for identity in few:
        for call in calls[1:]:
            yield _attempt(stage, function.signature, identity, call.sql(tokens), told)
        for call in calls if writes else ():
            yield _effect(stage, identity, call)
        if function.returns == "boolean":
            yield from _oracle(stage, identity, calls)


def _tokens(stage: Stage) -> list[str]:
    """Values that occur in the victim's rows and nowhere else."""
    keys = {value for row in stage.b.rows.values() for value in row.values.values() if value}
    mine = {value for row in stage.a.rows.values() for value in row.values.values() if value}
    return sorted(key for key in keys - mine if _TOKEN.fullmatch(key))


def _calls(stage: Stage, function: Function) -> list[_Call]:
    """With the victim's tenant first; then with the keys of its rows in the tables that the function names."""
    values = Values(stage.catalog.snapshot)
    tenant = {"uuid": literal(stage.b.id), "text": literal(stage.b.id)}

    def call(known: dict[str, str]) -> _Call:
        types = function.arguments
        return _Call(function, tuple(f"{known[t]}::{t}" if t in known else values.fresh(t) for t in types))

    rows = (tenant | _keys(stage.catalog.tables[row.table], row) for row in _named(stage, function))
    return list(dict.fromkeys(islice((call(known) for known in (tenant, *rows)), _VARIANTS)))


def _keys(table: Table, row: Row) -> dict[str, str]:
    """A row's key values by type."""
    names = next((c.columns for c in table.constraints if c.kind == "primary"), ())
    columns = [(c, row.values.get(name)) for name in names if (c := table.column(name))]
    return {c.type: literal(value) for c, value in columns if value is not None}


def _named(stage: Stage, function: Function) -> list[Row]:
    """The victim's rows in tables that the function's code names; all of them where it names none."""
    bodies = " ".join(f.body for f in stage.catalog.called_by(function))
    words = set(re.findall(r"\w+", bodies))
    named = [row for name, row in stage.b.rows.items() if name.rpartition(".")[2].strip('"') in words]
    return named or list(stage.b.rows.values())


def _attempt(stage: Stage, name: str, identity: Identity, sql: str, how: str) -> Attempt:
    with savepoint(stage.connection, identity.become, sql) as tried:
        try:
            cursor = tried()
            found = cursor.fetchone() if cursor.description else None
        except _WAITED as error:
            return Attempt(name, "SELECT", identity, problem=f"ended in {error.sqlstate}")
        except psycopg.Error:
            return Attempt(name, "SELECT", identity)
    if not found or not found[0]:
        return Attempt(name, "SELECT", identity)
    return _breach(stage, name, "SELECT", identity, sql, how)


def _effect(stage: Stage, identity: Identity, call: _Call) -> Attempt:
    """Whether the call left the victim's rows as they were."""
    name, sql = call.function.signature, call.sql([])
    before = _state(stage, call.function)
    with savepoint(stage.connection, identity.become, sql) as tried:
        try:
            tried()
            stage.connection.execute("RESET SESSION AUTHORIZATION; RESET ROLE")
            after = _state(stage, call.function)
        except _WAITED as error:
            return Attempt(name, "UPDATE", identity, problem=f"ended in {error.sqlstate}")
        except psycopg.Error:
            return Attempt(name, "UPDATE", identity)
    if after == before:
        return Attempt(name, "UPDATE", identity)
    return _breach(stage, name, "UPDATE", identity, sql, "changed what another tenant has, through the function")


def _state(stage: Stage, function: Function) -> list[tuple[object, ...]]:
    """Where the victim's rows are stored in the tables that the function may touch."""
    each = (
        f"SELECT {literal(row.table)}, array_agg(tableoid::text || ctid ORDER BY tableoid, ctid)"
        f" FROM {row.table} WHERE {row.where}"
        for row in _named(stage, function)
    )
    return stage.connection.execute(" UNION ALL ".join(each).encode()).fetchall()


def _oracle(stage: Stage, identity: Identity, calls: list[_Call]) -> Iterator[Attempt]:
    """Whether yes or no depends on what another tenant has: asked of its keys, and of keys that nobody has."""
    for call in calls:
        nobody = replace(call, arguments=tuple(_TOKEN.sub(str(uuid.uuid4()), value) for value in call.arguments))
        answers = [_answer(stage, identity, each) for each in (call, nobody)]
        if nobody != call and None not in answers and answers[0] != answers[1]:
            how = "was told by the function whether another tenant's row is there"
            yield _breach(stage, call.function.signature, "SELECT", identity, f"SELECT {call.text}", how)


def _answer(stage: Stage, identity: Identity, call: _Call) -> bool | None:
    with savepoint(stage.connection, identity.become, f"SELECT {call.text}") as tried:
        try:
            row = tried().fetchone()
        except psycopg.Error:
            return None
    return row[0] if row else None


def _breach(stage: Stage, name: str, operation: str, identity: Identity, sql: str, how: str) -> Attempt:
    script = f"BEGIN;\n{stage.setup}{identity.become};\n{sql};\nROLLBACK;"
    breach = Breach(name, operation, identity, f"{identity.name} {how}", script)
    return Attempt(name, operation, identity, breach)
