"""Every control fires on each of its faults, alone or with those it names, and is green again after."""

import subprocess
import sys
from dataclasses import dataclass

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, Snapshot, read_snapshot
from pytest_tenantproof.config import Settings
from pytest_tenantproof.control import control_of
from pytest_tenantproof.controls import catalogue, catalogue_digest
from pytest_tenantproof.controls.judge import functions, judge, judge_given, static_ids
from pytest_tenantproof.migrate import migrations_folder, status
from pytest_tenantproof.model import Fault, Outcome, Result
from pytest_tenantproof.prove.placeholders import fill, placeholders
from pytest_tenantproof.target import rolled_back
from tests.naming import changed, names
from tests.support import faults_settings, reference_settings


@dataclass(frozen=True)
class Case:
    control: str
    fault: Fault
    number: int

    def __str__(self) -> str:
        return f"{self.control}-{self.number}"


def _cases() -> list[Case]:
    declared = ((i, control_of(functions()[i])) for i in static_ids())
    return [Case(i, fault, n) for i, found in declared if found for n, fault in enumerate(found.faults, 1) if fault.sql]


def _given() -> list[Case]:
    declared = ((i, control_of(function)) for i, function in functions().items())
    faults = [Case(i, fault, n) for i, found in declared if found for n, fault in enumerate(found.faults, 1)]
    return [case for case in faults if not case.fault.sql]


def red(connection: psycopg.Connection[object], settings: Settings) -> dict[str, Result]:
    return red_of(read_snapshot(connection), settings)


def red_of(snapshot: Snapshot, settings: Settings) -> dict[str, Result]:
    catalog = Catalog(snapshot, settings)
    results = (judge(i, catalog) for i in static_ids())
    return {r.control: r for r in results if r.outcome not in (Outcome.PASSED, Outcome.NOT_APPLICABLE)}


def test_every_static_control_has_a_fault() -> None:
    for control_id in static_ids():
        declared = control_of(functions()[control_id])
        assert declared is not None
        assert declared.faults, control_id


@pytest.mark.parametrize("case", _cases(), ids=str)
def test_fault_turns_its_control_red(case: Case, reference_database: str, faults_database: str) -> None:
    for dsn, settings in ((reference_database, reference_settings()), (faults_database, faults_settings())):
        with psycopg.connect(dsn, autocommit=True) as connection:
            before = read_snapshot(connection)
            catalog = Catalog(before, settings)
            sql = fill(case.fault.sql, placeholders(catalog, connection.info.dbname))
            if sql is None:
                continue
            with rolled_back(connection):
                connection.execute(sql.encode())
                after = read_snapshot(connection)
            found, concerned = red_of(after, settings), changed(before, after)
            assert case.control in found, f"{sql} went unnoticed"
            assert found[case.control].outcome is Outcome.FAILED, found[case.control].reason
            said = [f"{f.object}: {f.detail}" for f in found[case.control].findings]
            named = [f for f in found[case.control].findings if names(f, concerned)]
            assert named, f"{sql} changed {sorted(concerned)}, which no finding names: {said}"
            unexpected = {i for i in found if i != case.control and not i.startswith("TP9")} - set(case.fault.also)
            assert not unexpected, {i: [f"{f.object}: {f.detail}" for f in found[i].findings] for i in unexpected}
            assert not red(connection, settings)
            return
    pytest.fail(f"no schema of the tests has what the fault needs: {case.fault.sql}")


# Faults that leave a control without an answer, which is never "passed": why, in its own words.
UNANSWERED = {
    "TP312-1": "public.x: 23514 at x_check",
    "TP321-1": "(claims): unproven",
    "TP515-5": "no seal is in the evidence folder",
    "TP516-3": "public.x: reading it ended in 42501",
    "TP806-1": "could not count",
    "TP951-1": "keys are escrowed (ann, until 2020-01-31)",
}


@pytest.mark.parametrize("case", _given(), ids=str)
def test_fault_of_settings_or_fixtures_turns_its_control_red(case: Case, reference_database: str) -> None:
    with psycopg.connect(reference_database, autocommit=True) as connection:
        catalog = Catalog(read_snapshot(connection), reference_settings())
    found = judge_given(case.control, catalog, case.fault)
    expected = Outcome.NOT_RUN if str(case) in UNANSWERED else Outcome.FAILED
    assert found.outcome is expected, found.reason
    assert UNANSWERED.get(str(case), "") in found.reason
    assert bool(found.findings) is (expected is Outcome.FAILED)


LEDGER_FAULTS = (
    "UPDATE tenantproof.migrations SET sha256 = repeat('0', 64) WHERE seq = 1",
    "DELETE FROM tenantproof.migrations WHERE seq = (SELECT max(seq) FROM tenantproof.migrations)",
    "INSERT INTO tenantproof.migrations (version, name, sha256) VALUES ('999999', 'by_hand', '')",
    "ALTER TABLE tenantproof.migrations RENAME TO gone",
)


@pytest.mark.parametrize("fault", LEDGER_FAULTS)
def test_a_changed_ledger_turns_the_migrations_control_red(fault: str, reference_database: str) -> None:
    with psycopg.connect(reference_database, autocommit=True) as connection:
        catalog = Catalog(read_snapshot(connection), reference_settings())
        for sql, expected in (("SELECT 1", Outcome.PASSED), (fault, Outcome.FAILED)):
            with rolled_back(connection):
                connection.execute(sql.encode())
                found = status(connection, migrations_folder())
            assert judge("TP913", catalog, migrations=found).outcome is expected, sql


def test_the_catalogue_has_one_digest_in_every_process() -> None:
    code = "from pytest_tenantproof import controls; print(controls.catalogue_digest(controls.catalogue()))"
    told = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(2)}
    assert told == {f"{catalogue_digest(catalogue())}\n".encode()}
