"""SQL made at run time: fixed statements with names and constants filled in, and everything else."""

import pytest

from pytest_tenantproof.catalog.dynamic import runs_callers_sql
from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import body_of


def _runs(statement: str, returns: str = "void") -> bool:
    text = f"DECLARE r record; t text; c refcursor; BEGIN {statement} END"
    body = body_of(Function("app.f(text)", "f", "app", ("text",), returns, "plpgsql", "postgres", body=text))
    assert body is not None, statement
    return runs_callers_sql(body)


@pytest.mark.parametrize(
    "statement",
    [
        "PERFORM 1;",
        "EXECUTE 'SELECT 1' INTO t;",
        "EXECUTE format('SELECT %I FROM app.config LIMIT 1', $1) INTO t;",
        "EXECUTE pg_catalog.format('UPDATE app.config SET %I = %L WHERE rate > 10 %% 3', $1, 'x');",
        "FOR r IN EXECUTE format('SELECT * FROM %I.%I WHERE a = %L', 'a', $1, 'b') LOOP NULL; END LOOP;",
        "EXECUTE format('DELETE FROM app.t WHERE id = $1') USING $1;",
        "OPEN c FOR EXECUTE format('SELECT %1$I, %1$I FROM app.t', $1);",
    ],
)
def test_fixed_statements(statement: str) -> None:
    assert not _runs(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "EXECUTE $1;",
        "EXECUTE 'SELECT ' || $1;",
        "EXECUTE format($1, 'a');",
        "EXECUTE format('SELECT %s FROM app.t', $1);",
        "EXECUTE format('SELECT %I(%L, %L, false)', $1, 'request.jwt.claims', '{}');",
        "EXECUTE format('SELECT %L::%I', $1, $1);",
        "EXECUTE format('SELECT ''a %I'' FROM app.t', $1);",
        "EXECUTE format('SELECT 1 /* %I */ FROM app.t', $1);",
        "EXECUTE format('SELECT 1 /* %L */ FROM app.t', $1);",
        "EXECUTE format('SET ROLE %I', $1);",
        "EXECUTE format('CALL %I()', $1);",
        "EXECUTE format('SELECT 1; SELECT %L', $1);",
        "EXECUTE app.format('SELECT 1', $1);",
        "FOR r IN EXECUTE $1 LOOP NULL; END LOOP;",
        "OPEN c FOR EXECUTE $1;",
        "IF true THEN BEGIN EXECUTE $1; END; END IF;",
    ],
)
def test_the_callers_statements(statement: str) -> None:
    assert _runs(statement)


def test_queries_that_are_returned() -> None:
    assert _runs("RETURN QUERY EXECUTE $1;", "SETOF record")
    assert not _runs("RETURN QUERY EXECUTE format('SELECT %I FROM app.t', $1);", "SETOF record")
