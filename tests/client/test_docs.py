"""The examples of docs/CLIENT.md and docs/GATES.md, run as they stand there."""

import re

import psycopg
import pytest

from pytest_tenantproof import client
from pytest_tenantproof.errors import GateRefused
from tests.client.conftest import Product
from tests.support import REPOSITORY


def examples(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / "docs" / name).read_text(), re.S)


def test_the_client_as_documented(
    product: Product, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    unit = product.sql(f"SELECT unit_id FROM messages WHERE tenant_id = '{product.one}' LIMIT 1")[0][0]
    label = product.sql(f"SELECT label FROM units WHERE id = '{unit}'")[0][0]
    given = {"dsn": product.backend, "operator_dsn": product.operator, "tenant_id": product.one, "unit": unit}
    first, second = examples("CLIENT.md", "python")
    try:
        for code in (first, second):
            names: dict[str, object] = {**given, "TenantPool": client.TenantPool}
            exec(compile(code, "CLIENT.md", "exec"), names)
            pool = names["pool"]
            assert isinstance(pool, client.TenantPool)
            pool.close()
        assert capsys.readouterr().out
        assert product.sql(f"SELECT label FROM units WHERE id = '{unit}'") == [("The Lodge",)]
    finally:
        product.sql(f"UPDATE units SET label = '{label}' WHERE id = '{unit}'")


def test_a_table_of_your_own_as_documented(product: Product) -> None:
    (sql,) = examples("CLIENT.md", "sql")
    with psycopg.connect(product.admin) as connection:
        connection.execute("CREATE TABLE public.invoices (tenant_id uuid NOT NULL)")
        connection.execute("ALTER TABLE public.invoices ENABLE ROW LEVEL SECURITY")
        connection.execute(sql.encode())
        connection.execute("SET LOCAL ROLE app_scoped")
        connection.execute("SELECT * FROM public.invoices")
        with pytest.raises(psycopg.DatabaseError, match="no tenant is bound"):
            connection.execute("INSERT INTO public.invoices VALUES (gen_random_uuid())")
        connection.rollback()


def test_the_gate_as_documented(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    (code,) = examples("GATES.md", "python")
    with pytest.raises(GateRefused):
        exec(compile(code, "GATES.md", "exec"), {"dsn": product.admin})
