"""Random guards: where the judgement says that a change is refused, PostgreSQL refuses it."""

import random

import psycopg
import pytest

from pytest_tenantproof.catalog.model import Column
from tests.catalog.test_guards import A, B, changes, connection, is_kept

__all__ = ["connection"]

ATOMS = (
    "new.tenant_id = old.tenant_id",
    "new.tenant_id <> old.tenant_id",
    "new.tenant_id is distinct from old.tenant_id",
    "old.tenant_id is not distinct from new.tenant_id",
    "new.tenant_id is null",
    "old.tenant_id is null",
    "new.label = old.label",
    "row(new.*) is distinct from row(old.*)",
    "(new.tenant_id, new.id) = (old.tenant_id, old.id)",
    "new.tenant_id in (old.tenant_id, new.tenant_id)",
    "tg_op = 'UPDATE'",
    "tg_op in ('INSERT', 'DELETE')",
    "coalesce(new.tenant_id = old.tenant_id, false)",
    "new = old",
    "same",
    "was = new.tenant_id",
    "v",
)


def condition(r: random.Random, depth: int = 2) -> str:
    pick = r.random()
    if depth == 0 or pick < 0.35:
        return r.choice(ATOMS)
    if pick < 0.55:
        return f"not ({condition(r, depth - 1)})"
    if pick < 0.7:
        return f"({condition(r, depth - 1)}) is {r.choice(('true', 'not true', 'false', 'not false', 'unknown'))}"
    word = r.choice((" and ", " or "))
    return f"({condition(r, depth - 1)}{word}{condition(r, depth - 1)})"


def statement(r: random.Random, depth: int = 2) -> str:
    refusal = r.choice(("raise exception 'no';", "return null;", "raise exception 'no';"))
    simple = (
        refusal,
        "return new;",
        "new.tenant_id := old.tenant_id;",
        f"same := {condition(r, 1)};",
        "was := old.tenant_id;",
        "was := new.tenant_id;",
        f"v := {condition(r, 1)};",
        "raise notice 'x';",
    )
    pick = r.random()
    if depth == 0 or pick < 0.25:
        return r.choice(simple)
    inner = [statement(r, depth - 1) for _ in range(3)]
    if pick < 0.6:
        return f"if {condition(r)} then {inner[0]} {r.choice(('', f'else {inner[1]}'))} end if;"
    if pick < 0.7:
        return f"if {condition(r)} then {inner[0]} elsif {condition(r)} then {inner[1]} else {inner[2]} end if;"
    if pick < 0.8:
        return f"case when {condition(r)} then {inner[0]} else {inner[1]} end case;"
    if pick < 0.9:
        return f"begin {inner[0]} {inner[1]} exception when others then {inner[2]} end;"
    return f"for i in 1..{r.choice((0, 1, 2))} loop {inner[0]} exit when {condition(r, 1)}; end loop;"


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_is_called_a_guard_lets_a_change_through(seed: int, connection: psycopg.Connection) -> None:
    r = random.Random(seed)
    nullable, kept = Column("tenant_id", "uuid"), 0
    connection.execute("alter table public.units alter tenant_id drop not null")
    connection.execute("alter table public.units drop constraint units_tenant_id_fkey")
    connection.execute(f"update public.units set tenant_id = null where tenant_id = {B}".encode())
    moves = {
        f"with m as (update public.units set tenant_id = {to} where tenant_id {of} returning tenant_id as t)"
        f" select 1 from m where t is not distinct from {to}"
        for to, of in ((B, f"= {A}"), ("null", f"= {A}"), (B, "is null"))
    }
    for _ in range(300):
        declared = "declare same boolean; was uuid := old.tenant_id; v boolean := new.tenant_id = old.tenant_id;"
        body = f"{declared} begin {' '.join(statement(r) for _ in range(3))} return new; end"
        if is_kept(body, column=nullable):
            kept += 1
            assert [move for move in moves if changes(connection, body, "public.units", move)] == [], body
    assert kept > 5
