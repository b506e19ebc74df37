"""Audit logs broken in forty ways, and harmlessly changed in ten, on the schema of the benchmark."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge, static_ids
from pytest_tenantproof.model import Outcome, Result
from pytest_tenantproof.target import rolled_back
from tests.support import FAULTS, faults_settings

with (FAULTS / "audit.tsv").open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file, delimiter="\t"))


@pytest.fixture(scope="module")
def base(faults_database: str) -> Iterator[psycopg.Connection[object]]:
    with psycopg.connect(faults_database, autocommit=True) as connection:
        connection.execute("SET search_path = public")
        yield connection


def red(connection: psycopg.Connection[object]) -> list[Result]:
    catalog = Catalog(read_snapshot(connection), faults_settings())
    wanted = (*(i for i in static_ids() if not i.startswith("TP9")), "TP506")
    results = (judge(i, catalog, today=datetime.now(UTC).date()) for i in wanted)
    return [r for r in results if r.outcome is not Outcome.PASSED and r.outcome is not Outcome.NOT_APPLICABLE]


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_audit_fault(row: dict[str, str], base: psycopg.Connection[object]) -> None:
    with rolled_back(base):
        base.execute(row["sql"].encode())
        found = red(base)
    said = [(r.control, r.reason, f"{f.object}: {f.detail}") for r in found for f in r.findings]
    assert all(r.outcome is Outcome.FAILED for r in found), [(r.control, r.reason) for r in found]
    assert bool(found) is (row["group"] != "benign"), said
    if found:
        assert any(word in text for _, _, text in said for word in ("audit", "recorded", "private.forbid")), said
