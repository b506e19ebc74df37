"""PL/pgSQL as products write it: what the parser refuses for its own reasons is read all the same."""

import pytest

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import body_of


def _function(body: str) -> Function:
    return Function("app.f()", "f", "app", (), "void", "plpgsql", "postgres", body=body)


@pytest.mark.parametrize(
    "declared",
    [
        "x shop.kind; y text;",
        "x CONSTANT shop.kind := 'a'; y shop.kind;",
        'ä text; y "My shop"."kind of"; x "My shop"."kind of"[];',
        "x shop.geometry(point, 4326); y int;",
        "x shop.orders%ROWTYPE; y shop.orders.id%TYPE;",
        "x kind; y kind; r record;",
        "x text; DECLARE y shop.kind;",
        "x text DEFAULT (SELECT o.kind FROM shop.orders o LIMIT 1); y shop.kind;",
    ],
)
def test_variables_of_any_type_are_read(declared: str) -> None:
    body = body_of(
        _function(
            f"DECLARE {declared} BEGIN SELECT o.kind INTO STRICT y FROM shop.orders o;"
            " DECLARE z shop.kind; BEGIN NULL; END; END"
        )
    )
    assert body is not None
    kind, node = body.statements[0]
    assert kind == "PLpgSQL_stmt_execsql"
    assert "FROM shop.orders o" in str(node)


@pytest.mark.parametrize("type_", ["shop.orders", "orders", "shop.orders%ROWTYPE", "orders%rowtype", "record"])
def test_rows_are_read_where_scalars_do_not_fit(type_: str) -> None:
    body = body_of(_function(f"DECLARE x {type_}; BEGIN SELECT * INTO x FROM shop.orders; x.kind := 'a'; END"))
    assert body is not None
    assert "x.kind := 'a'" in str(body.statements)


def test_what_is_no_function_is_none() -> None:
    assert body_of(_function("BEGIN RETURN 'open;")) is None
    assert body_of(_function("DECLARE x shop.kind; BEGIN IF THEN END")) is None


def test_parameters_are_assigned_to() -> None:
    text = "BEGIN who := session_user; IF who IS NULL THEN RETURN; END IF; END"
    assert body_of(_function(text)) is None
    definition = f"CREATE FUNCTION app.f(OUT who text) LANGUAGE plpgsql AS $$ {text} $$"
    made = Function("app.f()", "f", "app", (), "text", "plpgsql", "o", body=text, definition=definition)
    assert body_of(made) is not None
