"""What controls may ask for."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.attest.elsewhere import last_report
from pytest_tenantproof.audit import Order, Sealed, compared, order, read_chain, seals_folder
from pytest_tenantproof.backup import open_store
from pytest_tenantproof.backup.inspect import Backups
from pytest_tenantproof.backup.trust import trusted_keys
from pytest_tenantproof.canary import Readings, measure
from pytest_tenantproof.canary.record import record_readings
from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.codebase import CodeBase, read_code
from pytest_tenantproof.config.settings import environment_name
from pytest_tenantproof.control import Findings, NotApplicable, NotRun, ProvenElsewhere
from pytest_tenantproof.declared import Declared, declared_catalog
from pytest_tenantproof.errors import AuditError, ConfigError, VerificationError
from pytest_tenantproof.migrate import Status
from pytest_tenantproof.migrate import status as migration_status
from pytest_tenantproof.model import Control
from pytest_tenantproof.plugin.canary import counted_once
from pytest_tenantproof.plugin.drill import Drills
from pytest_tenantproof.plugin.provision import migrations_of
from pytest_tenantproof.plugin.session import EvidencePlugin
from pytest_tenantproof.plugin.shares import probe_together
from pytest_tenantproof.plugin.storage import BackupStorage, note_backup, open_storage
from pytest_tenantproof.probes import Probed, Stored, Trail, follow, probe_live, scan
from pytest_tenantproof.scan import Known, contents, known_of
from pytest_tenantproof.target import TargetInfo, connect, open_session, rolled_back

__all__ = [
    "backup_storage",
    "backups",
    "bundles",
    "catalog",
    "clocks",
    "code",
    "database",
    "declared",
    "drills",
    "evidence_run",
    "findings",
    "known",
    "last_digests",
    "live_probes",
    "migrations",
    "order_of_events",
    "probes",
    "readings",
    "scripts",
    "sealed",
    "secrets",
    "stored",
    "target",
    "today",
    "trail",
]


@pytest.fixture(scope="session")
def evidence_run(request: pytest.FixtureRequest) -> EvidencePlugin:
    """The run itself; for the fixtures below."""
    plugin = request.config.pluginmanager.get_plugin("tenantproof-session")
    if not isinstance(plugin, EvidencePlugin):
        raise pytest.UsageError("controls run with --evidence=TARGET only")
    return plugin


@pytest.fixture(scope="session")
def catalog(evidence_run: EvidencePlugin) -> Catalog:
    """The target's catalog, read once for all workers."""
    return evidence_run.prepared()[1]


@pytest.fixture(scope="session")
def target(evidence_run: EvidencePlugin) -> TargetInfo:
    """What the target is."""
    return evidence_run.prepared()[0]


@pytest.fixture(scope="session")
def probes(evidence_run: EvidencePlugin, target: TargetInfo, catalog: Catalog) -> Probed:
    """The attack on two fresh tenants, made once a run: under pytest-xdist all workers take part."""
    if target.class_ == "live":
        raise ProvenElsewhere("probes write, and a live target is never written to")
    connection, _ = open_session(evidence_run.dsn, target.name, target.class_)
    with connection:
        return probe_together(evidence_run, connection, catalog)


@pytest.fixture(scope="session")
def trail(evidence_run: EvidencePlugin, target: TargetInfo, catalog: Catalog) -> Trail:
    """What was tried on the audit log, once a process."""
    if target.class_ == "live":
        raise ProvenElsewhere("what is tried on the log writes, and a live target is never written to")
    connection, _ = open_session(evidence_run.dsn, target.name, target.class_)
    with connection:
        return follow(connection, catalog)


@pytest.fixture(scope="session")
def order_of_events(evidence_run: EvidencePlugin, target: TargetInfo, catalog: Catalog) -> tuple[Order, ...]:
    """The clock of each audit log, read past row security. A live target is read through its PROBE DSN."""
    with _reading_rows(evidence_run, target) as connection:
        return order(connection, catalog, evidence_run.settings.timestamp.max_skew_s)


@pytest.fixture(scope="session")
def sealed(evidence_run: EvidencePlugin, target: TargetInfo) -> Sealed:
    """The target's audit events, compared with the seals in the evidence folder."""
    folder = seals_folder(evidence_run.evidence_root, target.name)
    found = Sealed()
    try:
        if any(folder.glob("*.seal.jsonl")):
            found = read_chain(folder, trusted_keys(evidence_run.settings))
        with _reading_rows(evidence_run, target) as connection:
            return compared(connection, folder, found) if found.chain else found
    except NotApplicable as why:
        return dataclasses.replace(found, unread=str(why))
    except (AuditError, ConfigError) as error:
        raise NotRun(str(error)) from error


@contextlib.contextmanager
def _reading_rows(
    evidence_run: EvidencePlugin, target: TargetInfo, otherwise: type[NotApplicable] = NotApplicable
) -> Iterator[psycopg.Connection[Any]]:
    """A session that reads tenants' rows: on a live target through its PROBE DSN, as an auditor reads none."""
    dsn = _probe_dsn(evidence_run, target, otherwise) if target.class_ == "live" else evidence_run.dsn
    connection, _ = open_session(dsn, target.name, target.class_)
    with connection:
        yield connection


@pytest.fixture(scope="session")
def readings(
    evidence_run: EvidencePlugin, target: TargetInfo, catalog: Catalog, declared: Declared
) -> Iterator[Readings]:
    """What the canaries counted, once a run; kept in canary_runs afterwards where a writer is configured."""

    def count() -> Readings:
        known = Catalog(declared.snapshot, evidence_run.settings) if declared.snapshot else None
        connection, _ = open_session(evidence_run.dsn, target.name, target.class_)
        with connection, rolled_back(connection):
            return measure(connection, catalog, known, target.name)

    found, ours = counted_once(evidence_run.shared()[0], count)
    yield found
    if ours and os.environ.get(environment_name(target.name, "WRITER_DSN")):
        with connect(evidence_run.settings.dsn(target.name, "WRITER")) as writer:
            record_readings(writer, target.name, found)


@pytest.fixture(scope="session")
def last_digests(evidence_run: EvidencePlugin) -> dict[str, str]:
    """The digests in the newest bundle of this target before this run, which has to verify; {} for the first one."""
    folder = evidence_run.evidence_root / evidence_run.target
    try:
        last = last_report(folder, evidence_run.trusted, scratch=evidence_run.scratch_key)
    except VerificationError as error:
        why = "add its key to keys in [tenantproof.elsewhere]" if error.reason == "key-unknown" else "look into it"
        raise NotRun(f"the last evidence of this target does not verify ({error.reason}): {why}") from error
    return dict(last["digests"]) if last else {}


@pytest.fixture(scope="session")
def stored(evidence_run: EvidencePlugin, target: TargetInfo, catalog: Catalog) -> tuple[Stored, ...]:
    """Rows that break a constraint."""
    with _reading_rows(evidence_run, target, ProvenElsewhere) as connection:
        return scan(connection, catalog)


@pytest.fixture(scope="session")
def live_probes(evidence_run: EvidencePlugin, target: TargetInfo, catalog: Catalog) -> Probed:
    """Attacks that only read, on the target's own tenants; on a live one in a read-only session."""
    with _reading_rows(evidence_run, target, ProvenElsewhere) as connection:
        found = probe_live(connection, catalog)
    if target.class_ != "live" and found.problems and not found.breaches:
        why = next(iter(found.problems.values()))
        raise NotApplicable(
            f"its tenants show too little ({why}); two fresh ones are attacked, which shows more (TP301)"
        )
    return found


def _probe_dsn(evidence_run: EvidencePlugin, target: TargetInfo, otherwise: type[NotApplicable]) -> str:
    variable = environment_name(target.name, "PROBE_DSN")
    if not os.environ.get(variable, "").strip():
        raise otherwise(f"tenants' rows are read on a live target through {variable} only, which is not set")
    return evidence_run.settings.dsn(target.name, "PROBE")


@pytest.fixture(scope="session")
def known(evidence_run: EvidencePlugin) -> dict[str, Control]:
    """Every control of this run's catalogue, by id."""
    return {control.id: control for control in evidence_run.catalogue}


@pytest.fixture(scope="session")
def today() -> date:
    """The day, UTC."""
    return datetime.now(UTC).date()


@pytest.fixture(scope="session")
def clocks(evidence_run: EvidencePlugin) -> dict[str, str]:
    """What the local, the database's and the trusted clock said at the same moment (UTC, RFC 3339)."""
    return evidence_run.clocks


@pytest.fixture(scope="session")
def backup_storage(evidence_run: EvidencePlugin) -> Iterator[BackupStorage]:
    """Where the target's backups are; a built-in target gets a store and a first backup when this is asked for."""
    with open_storage(evidence_run) as storage:
        yield storage


@pytest.fixture(scope="session")
def backups(evidence_run: EvidencePlugin, backup_storage: BackupStorage) -> Iterator[Backups]:
    """The target's backups, examined."""
    with (
        contextlib.closing(open_store(backup_storage.store)) as store,
        contextlib.closing(open_store(backup_storage.key_store)) as key_store,
    ):
        given = backup_storage
        found = Backups(given.settings, given.target, store, key_store, given.trusted, evidence_run.dsn)
        yield found
        note_backup(evidence_run, found)


@pytest.fixture(scope="session")
def declared(evidence_run: EvidencePlugin, catalog: Catalog) -> Declared:
    """What the catalog should be, from the migrations or the lock."""
    built_in = evidence_run.target in ("embedded", "container")
    return declared_catalog(evidence_run.settings, catalog.snapshot.major, shipped=built_in)


@pytest.fixture(scope="session")
def drills(evidence_run: EvidencePlugin) -> Drills:
    """The one restore drill of this run, done when a control asks for its record."""
    return Drills(evidence_run)


@pytest.fixture
def findings() -> Findings:
    """Where a control reports what is wrong."""
    return Findings()


@pytest.fixture
def database(evidence_run: EvidencePlugin, target: TargetInfo) -> Iterator[psycopg.Connection[Any]]:
    """A session of the target's class, in a transaction that is rolled back."""
    connection, _ = open_session(evidence_run.dsn, target.name, target.class_)
    with connection, rolled_back(connection):
        yield connection


@pytest.fixture
def migrations(evidence_run: EvidencePlugin, database: psycopg.Connection[Any]) -> Status:
    """How the target's ledger compares with the files. Raises NotRun where there are no files to compare with."""
    settings = evidence_run.settings
    if not settings.migrations:
        return Status("", (), (), (), ())
    folder = migrations_of(settings, evidence_run.target)
    if not folder.is_dir():
        raise NotRun(f'{folder} does not exist; set migrations = "" if the product keeps no SQL migrations')
    return migration_status(database, folder)


@pytest.fixture(scope="session")
def secrets(evidence_run: EvidencePlugin) -> Known:
    """What is secret here, by the config and this run's environment."""
    return known_of(evidence_run.settings, os.environ)


@pytest.fixture(scope="session")
def code(evidence_run: EvidencePlugin) -> CodeBase:
    """The product's server code."""
    return read_code(evidence_run.settings.root, _named(evidence_run, "code_paths", "server code"))


@pytest.fixture(scope="session")
def scripts(evidence_run: EvidencePlugin) -> CodeBase:
    """Seed, demo and onboarding scripts."""
    return read_code(evidence_run.settings.root, _named(evidence_run, "script_paths", "seed or demo scripts"))


@pytest.fixture(scope="session")
def bundles(evidence_run: EvidencePlugin) -> list[tuple[str, bytes]]:
    """Built front-end files."""
    root, paths = evidence_run.settings.root, _named(evidence_run, "client_bundles", "a front end")
    return [(_below(root, path), content) for path, content in contents([root / path for path in paths])]


def _below(root: Path, path: str) -> str:
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def _named(run: EvidencePlugin, key: str, what: str) -> tuple[str, ...]:
    """Paths of the config. Unset, the control is not run; an empty list says that there is nothing."""
    paths: tuple[str, ...] | None = getattr(run.settings.guard, key)
    if paths is None:
        raise NotRun(f"guard.{key} is not set in {run.settings.source}; [] says that the product has no {what}")
    if not paths:
        raise NotApplicable(f"guard.{key} is empty: the product has no {what} here")
    return paths
