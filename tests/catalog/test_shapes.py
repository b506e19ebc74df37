"""Texts asked for once for each shape are, for every object, what the server writes for that object."""

from collections.abc import Callable

import psycopg
import pytest

from pytest_tenantproof.catalog import read_snapshot
from pytest_tenantproof.catalog.shapes import written
from pytest_tenantproof.errors import CatalogError

_TABLES = """
CREATE TABLE public.a (x int CHECK (x > 0), y int, UNIQUE (x, y), PRIMARY KEY (y));
CREATE TABLE public.b (x int CHECK (x > 0), y int, UNIQUE NULLS NOT DISTINCT (x, y), PRIMARY KEY (y) INCLUDE (x));
CREATE TABLE public.swapped (y int CHECK (y > 0), x int, UNIQUE (x, y) DEFERRABLE, FOREIGN KEY (x) REFERENCES public.a);
CREATE TABLE public."A b" (x int CHECK (x > 0) NO INHERIT, "y Y" int, UNIQUE (x, "y Y"));
CREATE TABLE public.renamed (x int CHECK (x > 0), y int, UNIQUE (x, y), FOREIGN KEY (x) REFERENCES public.b);
ALTER TABLE public.renamed RENAME COLUMN x TO z;
CREATE TABLE public.dropped (gone int, x int CHECK (x > 0), y int, UNIQUE (x, y));
ALTER TABLE public.dropped DROP COLUMN gone;
CREATE TABLE public.m (x int CHECK (x > 0), y int, doubled int GENERATED ALWAYS AS (x * 2) STORED);
ALTER TABLE public.m ADD CHECK (m IS NOT NULL), ADD CHECK (x > 1) NOT VALID;
ALTER TABLE public.a ADD CHECK (a IS NOT NULL), ADD CHECK (x > 1);
"""
_CONDITIONS = (
    "{0} = 1",
    "{0} = (SELECT 1)",
    "{0} = (SELECT {1})",
    "EXISTS (SELECT FROM public.m m WHERE m.x = {2}.{0})",
    "EXISTS (SELECT FROM public.a m WHERE m.x = {2}.{0} AND EXISTS (SELECT FROM public.b WHERE b.x = {2}.{1}))",
    "{2} IS NOT NULL",
    "({2}.*)::text = 'x'",
    "(SELECT {2} IS NULL)",
)
_NAMES = {"a": ("x", "y"), "b": ("x", "y"), "swapped": ("y", "x"), '"A b"': ("x", '"y Y"'), "renamed": ("z", "y")}
_NAMES |= {"dropped": ("x", "y"), "m": ("x", "y")}


@pytest.fixture
def shapes(new_database: Callable[[], str]) -> str:
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_TABLES.encode())
        for table, (first, second) in _NAMES.items():
            for number, condition in enumerate(_CONDITIONS):
                text = condition.format(first, second, table)
                command = f"CREATE POLICY p{number} ON public.{table} USING ({text})"
                connection.execute(f"{command} {f'WITH CHECK ({text})' if number % 2 else ''}".encode())
    return dsn


def test_texts_are_those_of_each_object(shapes: str) -> None:
    with psycopg.connect(shapes, autocommit=True) as connection:
        snapshot = read_snapshot(connection)
        connection.execute("SET search_path = ''")
        policies = connection.execute(
            "SELECT format('%I.%I', n.nspname, c.relname), p.polname, coalesce(pg_get_expr(polqual, polrelid), ''),"
            " coalesce(pg_get_expr(polwithcheck, polrelid), '') FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
        ).fetchall()
        constraints = connection.execute(
            "SELECT format('%I.%I', n.nspname, c.relname), k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k"
            " JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND k.contype <> 'n'"
        ).fetchall()
    found = {(t.name, p.name, p.using, p.check) for t in snapshot.tables for p in t.policies}
    assert found == set(policies)
    assert len(found) == len(_NAMES) * len(_CONDITIONS)
    assert {(t.name, c.name, c.definition) for t in snapshot.tables for c in t.constraints} == set(constraints)
    generated = next(t for t in snapshot.tables if t.name == "public.m").column("doubled")
    assert generated is not None
    assert generated.default == "(x * 2)"


def test_one_object_of_each_shape_is_asked_for() -> None:
    asked: list[int] = []

    def ask(oids: list[int]) -> list[tuple[int, str]]:
        asked.extend(oids)
        return [(oid, f"text of {oid}") for oid in oids]

    assert written({1: "s", 2: "s", 3: "other"}, ask) == {1: ("text of 1",), 2: ("text of 1",), 3: ("text of 3",)}
    assert asked == [1, 3]


@pytest.mark.parametrize("rows", [[], [(1, None)], [(1, "text", None)]])
def test_what_is_gone_is_no_empty_text(rows: list[tuple[int, str | None]]) -> None:
    with pytest.raises(CatalogError, match="changed while it was read"):
        written({1: "s", 2: "s"}, lambda oids: rows)
