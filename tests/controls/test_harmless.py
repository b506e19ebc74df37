"""What products do every day, and what weakens nothing, turns no control red (tests/faults/harmless.tsv)."""

import csv

import psycopg
import pytest

from pytest_tenantproof.target import rolled_back
from tests.controls.test_falsified import red
from tests.support import FAULTS, faults_settings

with (FAULTS / "harmless.tsv").open(encoding="utf-8", newline="") as _file:
    ROWS = {row["id"]: row for row in csv.DictReader(_file, delimiter="\t")}


@pytest.mark.parametrize("number", ROWS)
def test_it_stays_green(number: str, faults_database: str) -> None:
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        connection.execute(ROWS[number]["sql"].encode())
        found = red(connection, faults_settings())
    assert not {i: [f"{f.object}: {f.detail}" for f in r.findings] or r.reason for i, r in found.items()}
