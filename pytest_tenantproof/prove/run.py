"""Injects each fault of a control into a clone of the target's schema, and says whether the control saw it.

The clone has the target's catalog and no row of its data; it lives on a private server. Each fault is tried in
a transaction that is rolled back, so that every fault meets the same clone.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog, Snapshot, read_snapshot
from pytest_tenantproof.config import Settings
from pytest_tenantproof.controls.judge import judge, judge_function, static_ids
from pytest_tenantproof.declared import Declared
from pytest_tenantproof.errors import CatalogError, TargetUnreachable
from pytest_tenantproof.model import Control, Falsified, Fault, Finding, Outcome, Result
from pytest_tenantproof.probes import follow, probe, scan
from pytest_tenantproof.prove.clone import rebuild
from pytest_tenantproof.prove.placeholders import fill, placeholders
from pytest_tenantproof.target import TargetInfo, find_bin, rolled_back, start

__all__ = ["Prover", "open_prover"]

Provide = Callable[[psycopg.Connection[Any], Catalog], Any]


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one fault: seen, missed, or why it could not be tried; and what else turned red."""

    seen: bool = False
    untried: str = ""
    others: tuple[str, ...] = ()


class Prover:
    """A clone, and the controls tried on it. `fixtures` gives what controls ask for beside the catalog."""

    def __init__(
        self, connection: psycopg.Connection[Any], settings: Settings, notes: tuple[str, ...], info: TargetInfo
    ) -> None:
        self.connection = connection
        self.settings = settings
        self.notes = notes
        self.catalog = Catalog(read_snapshot(connection), settings)
        self._values = placeholders(self.catalog, connection.info.dbname)
        declared = Declared(self.catalog.snapshot, "the clone itself")
        self.fixtures: dict[str, Provide] = {
            "database": lambda connection, _: connection,
            "declared": lambda *_: declared,
            "target": lambda *_: info,
            "clocks": lambda *_: {},
            "probes": probe,
            "stored": scan,
            "trail": follow,
        }
        self._before: dict[str, frozenset[Finding]] = {}
        self._stood: dict[str, Outcome] = {}
        """What each control says of the clone as it is, and what it finds."""
        self._learned: dict[str, Any] = {}

    def falsify(self, control: Control, function: Callable[..., None]) -> Falsified:
        """Tries every fault of a control. How many could not be tried, and why, is in the reason."""
        if lacking := self._lacking(control, function):
            why = f"not tried on a clone: it needs {', '.join(lacking)}"
            return Falsified(0, 0, why, untried=len(control.faults))
        if not control.faults:
            return Falsified(0, 0, "it declares no fault")
        tried = [self._try(control, function, fault) for fault in control.faults]
        done = [t for t in tried if not t.untried]
        why = "; ".join(sorted({t.untried for t in tried if t.untried}))
        reason = f"{len(tried) - len(done)} of {len(tried)} faults not tried: {why}" if why else ""
        others = tuple(sorted({name for t in done for name in t.others}))
        return Falsified(len(done), sum(t.seen for t in done), reason, len(tried) - len(done), others)

    def _lacking(self, control: Control, function: Callable[..., None]) -> list[str]:
        """Fixtures that the clone cannot give, and that not every fault brings along."""
        given = set.intersection(*(set(fault.given) for fault in control.faults)) if control.faults else set()
        wanted = set(inspect.signature(function).parameters) - {"catalog", "findings"}
        return sorted(wanted - self.fixtures.keys() - given)

    def _try(self, control: Control, function: Callable[..., None], fault: Fault) -> Tried:
        if self.catalog.snapshot.major < fault.min_version:
            return Tried(untried=f"it takes PostgreSQL {fault.min_version}")
        sql = fill(fault.sql, self._values)
        if sql is None:
            return Tried(untried="this schema has nothing of the kind that the fault breaks")
        before = self._untouched(control, function)
        try:
            with self._broken(sql, fault.undo):
                catalog = self._catalog(fault)
                found = self._judge(control, function, fault, catalog)
                others = self._others(control, fault, catalog)
        except (psycopg.Error, CatalogError) as error:
            code = error.sqlstate if isinstance(error, psycopg.Error) else None
            return Tried(untried=f"the fault could not be made ({code or type(error).__name__})")
        if not fault.sql and found.outcome is Outcome.NOT_RUN:
            return Tried(seen=True)
        given_alone = not fault.sql and not fault.settings
        if found.outcome is Outcome.NOT_APPLICABLE and (given_alone or self._stood[control.id] is found.outcome):
            return Tried(untried=f"the control does not apply here: {found.reason}", others=others)
        if found.outcome is Outcome.NOT_RUN and self._stood[control.id] is found.outcome:
            return Tried(untried=f"the control cannot tell on a clone: {found.reason}", others=others)
        if found.outcome is Outcome.FAILED and set(found.findings) - before:
            return Tried(seen=True, others=others)
        return Tried(untried=self._without_effect(function, found, before, catalog), others=others)

    def _without_effect(
        self, function: Callable[..., None], found: Result, before: frozenset[Finding], catalog: Catalog
    ) -> str:
        """Why a fault that went unnoticed breaks nothing on this clone; "" where the control missed it."""
        if before and found.outcome is Outcome.FAILED:
            return "the control is red here without it, and it adds nothing"
        asked = inspect.signature(function).parameters.keys() - {"catalog", "findings", "declared"}
        if not asked and catalog.settings == self.settings and catalog.snapshot == self.catalog.snapshot:
            return "it changes nothing in this schema"
        if "probes" in asked and self._learned["probes"].problems:
            table, why = next(iter(self._learned["probes"].problems.items()))
            return f"the clone cannot be attacked in full: {table}: {why}"
        return ""

    def _others(self, control: Control, fault: Fault, catalog: Catalog) -> tuple[str, ...]:
        """Controls of the catalog alone that the fault turned red as well, and does not name."""
        expected = {control.id, *fault.also}
        wanted = [i for i in static_ids() if i not in expected and not i.startswith("TP9")]
        return tuple(i for i in wanted if set(judge(i, catalog).findings) - self._clean(i)) if fault.sql else ()

    def _clean(self, control_id: str) -> frozenset[Finding]:
        if control_id not in self._before:
            found = judge(control_id, self.catalog)
            self._before[control_id], self._stood[control_id] = frozenset(found.findings), found.outcome
        return self._before[control_id]

    @contextlib.contextmanager
    def _broken(self, sql: str, undo: str) -> Iterator[None]:
        try:
            with rolled_back(self.connection):
                if sql:
                    self.connection.execute(sql.encode())
                yield
        finally:
            if undo:
                self.connection.execute(undo.encode())

    def _untouched(self, control: Control, function: Callable[..., None]) -> frozenset[Finding]:
        """What the control finds on the clone as it is: a finding that was there before proves nothing."""
        if control.id not in self._before:
            with rolled_back(self.connection):
                found = self._judge(control, function, Fault(), self.catalog)
            self._before[control.id], self._stood[control.id] = frozenset(found.findings), found.outcome
        return self._before[control.id]

    def _catalog(self, fault: Fault) -> Catalog:
        snapshot = read_snapshot(self.connection) if fault.sql else self.catalog.snapshot
        return Catalog(snapshot, dataclasses.replace(self.settings, **fault.settings))

    def _judge(self, control: Control, function: Callable[..., None], fault: Fault, catalog: Catalog) -> Result:
        wanted = inspect.signature(function).parameters.keys() - fault.given.keys()
        made = {name: self._made(name, fault, catalog) for name in self.fixtures if name in wanted}
        return judge_function(function, control.id, catalog, **(made | dict(fault.given)))

    def _made(self, name: str, fault: Fault, catalog: Catalog) -> Any:
        """A fixture's value; what was learned of the clone as it is serves every control."""
        if fault.sql or fault.settings or name == "database":
            return self.fixtures[name](self.connection, catalog)
        if name not in self._learned:
            self._learned[name] = self.fixtures[name](self.connection, catalog)
        return self._learned[name]


@contextlib.contextmanager
def open_prover(snapshot: Snapshot, settings: Settings, info: TargetInfo) -> Iterator[Prover]:
    """A clone of the snapshot on a private server of its major version, or else of the newest that is found.

    Raises TargetUnreachable when there are no server binaries.
    """
    notes = []
    try:
        bin_ = find_bin(snapshot.major)
    except TargetUnreachable:
        bin_ = find_bin()
        notes.append(f"the clone runs PostgreSQL {bin_.major}, the target {snapshot.major}")
    with start(bin_) as server, psycopg.connect(server.dsn(), autocommit=True) as connection:
        clone = rebuild(connection, snapshot)
        notes += [f"not rebuilt: {statement}" for statement in clone.missing]
        notes += [f"stubbed by signature: {signature}" for signature in clone.stubbed]
        yield Prover(connection, settings, tuple(notes), info)
