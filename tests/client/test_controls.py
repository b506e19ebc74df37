"""TP402 on a real database; the other controls of this theme are falsified in tests/controls."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.control import control_of
from pytest_tenantproof.controls.judge import functions, judge
from pytest_tenantproof.model import Outcome, Result
from pytest_tenantproof.prove.placeholders import fill, placeholders
from pytest_tenantproof.target import TargetInfo, open_session, rolled_back
from tests.client.conftest import Product
from tests.support import reference_settings


@pytest.fixture
def session(product: Product) -> Iterator[tuple[psycopg.Connection[Any], TargetInfo]]:
    connection, info = open_session(product.admin, "scratch", "scratch")
    with connection, rolled_back(connection):
        yield connection, info


def verdict(session: tuple[psycopg.Connection[Any], TargetInfo]) -> Result:
    connection, info = session
    catalog = Catalog(read_snapshot(connection), reference_settings())
    return judge("TP402", catalog, database=connection, target=info)


def test_the_reference_product_raises(session: tuple[psycopg.Connection[Any], TargetInfo]) -> None:
    assert verdict(session).outcome is Outcome.PASSED


def test_every_fault_is_seen(session: tuple[psycopg.Connection[Any], TargetInfo]) -> None:
    connection, _ = session
    declared = control_of(functions()["TP402"])
    assert declared is not None
    values = placeholders(Catalog(read_snapshot(connection), reference_settings()), "postgres")
    for fault in declared.faults:
        sql = fill(fault.sql, values)
        assert sql is not None
        connection.execute("SAVEPOINT before")
        connection.execute(sql.encode())
        found = verdict(session)
        connection.execute("ROLLBACK TO before")
        assert found.outcome is Outcome.FAILED
        assert {f.object for f in found.findings} >= {"app_scoped", "public.messages", "public.units"}


def test_what_could_not_be_tried_is_not_run(session: tuple[psycopg.Connection[Any], TargetInfo]) -> None:
    connection, _ = session
    connection.execute("REVOKE EXECUTE ON FUNCTION app.require_tenant_id() FROM app_scoped")
    assert verdict(session).outcome is Outcome.NOT_RUN
