"""What becomes of faults on a schema that is broken already, and of a control that sees nothing."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.control import Findings, control_of
from pytest_tenantproof.controls.judge import functions, static_ids
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.model import Control, Fault, Severity
from pytest_tenantproof.prove.placeholders import placeholders
from pytest_tenantproof.prove.run import Prover, open_prover
from pytest_tenantproof.target import find_bin, open_session, rolled_back, start
from tests.support import faults_settings, reference_settings


@pytest.fixture(scope="module")
def unhardened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prover]:
    folder: Path = tmp_path_factory.mktemp("baseline")
    first = migrations_folder() / "000_baseline.sql"
    (folder / first.name).write_bytes(first.read_bytes())
    with start(find_bin(18)) as server:
        apply(server.dsn(), folder)
        connection, info = open_session(server.dsn(), "staging", "staging")
        with connection:
            snapshot = read_snapshot(connection)
    with open_prover(snapshot, reference_settings(), info) as prover:
        yield prover


def test_no_control_is_blamed_for_what_was_broken_before(unhardened: Prover) -> None:
    said: dict[str, str] = {}
    for control_id in (*static_ids(), "TP301", "TP302"):
        function = functions()[control_id]
        declared = control_of(function)
        assert declared is not None
        found = unhardened.falsify(declared, function)
        assert found.detected == found.faults, (control_id, found)
        said[control_id] = found.reason
    assert "is red here without it" in said["TP203"]


def test_guards_are_taken_where_somebody_may_change_the_tenant(faults_database: str) -> None:
    with psycopg.connect(faults_database, autocommit=True) as connection, rolled_back(connection):
        dropped = []
        for statement in (
            "ALTER TABLE public.developments ADD COLUMN tp_token text UNIQUE",
            "REVOKE UPDATE ON ALL TABLES IN SCHEMA public FROM authenticated, service_role",
            "GRANT UPDATE (name) ON public.developments TO service_role",
            "GRANT UPDATE ON public.developments TO service_role",
        ):
            connection.execute(statement.encode())
            found = placeholders(Catalog(read_snapshot(connection), faults_settings()), "x")
            assert found["text_column"] != "tp_token"
            dropped.append(found.get("drop_freeze_trigger"))
    assert dropped[1:] == [None, None, "DROP TRIGGER developments_freeze ON public.developments"]
    assert dropped[0]


def test_a_control_that_does_not_apply_here_is_not_blamed(unhardened: Prover) -> None:
    for control_id in ("TP403", "TP506", "TP509", "TP514", "TP515"):
        function = functions()[control_id]
        declared = control_of(function)
        assert declared is not None
        found = unhardened.falsify(declared, function)
        assert found.detected == found.faults, (control_id, found)
        assert found.untried, control_id


def test_a_fault_that_makes_a_control_step_aside_is_missed(unhardened: Prover) -> None:
    def shy(catalog: Catalog, findings: Findings) -> None:
        """Looks away."""
        if "public.anything" in catalog.tables or not catalog.settings.membership_tables:
            findings.not_applicable("there is something")

    for fault in (Fault("CREATE TABLE public.anything (id int)"), Fault("", settings={"membership_tables": ()})):
        declared = Control("TP999", "shy", Severity.LOW, "A1", None, "9xx", "Looks away.", (fault,))
        found = unhardened.falsify(declared, shy)
        assert (found.faults, found.detected) == (1, 0)


def test_a_control_that_sees_nothing_is_found_out(unhardened: Prover) -> None:
    def blind(catalog: Catalog, findings: Findings) -> None:
        """Looks nowhere."""

    fault = Fault("CREATE TABLE public.anything (id int)")
    nothing = Fault("ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY")
    declared = Control("TP999", "blind", Severity.LOW, "A1", None, "9xx", "Looks nowhere.", (fault, nothing))
    found = unhardened.falsify(declared, blind)
    assert (found.faults, found.detected, found.untried) == (1, 0, 1)
    assert "it changes nothing in this schema" in found.reason
