"""The one drill of a run, whoever asks for it first: rehearsed, judged, recorded, and shared by all workers."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_tenantproof.backup import key_store_spec, open_store, store_spec
from pytest_tenantproof.backup.drill import Drill, DrillRequest, Rehearsed, rehearse
from pytest_tenantproof.backup.manifest import Manifest
from pytest_tenantproof.backup.record import record_drill
from pytest_tenantproof.backup.restore.guard import refusals, require_restorable
from pytest_tenantproof.backup.trust import trusted_keys
from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.config import Settings, TargetSettings, environment_name
from pytest_tenantproof.control import NotRun
from pytest_tenantproof.controls.judge import functions, judge, static_ids
from pytest_tenantproof.errors import RestoreError, TenantproofError
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.plugin.storage import BUILT_IN, BackupStorage, open_storage
from pytest_tenantproof.probes import probe, scan
from pytest_tenantproof.target import connect

if TYPE_CHECKING:
    from pytest_tenantproof.plugin.session import EvidencePlugin

__all__ = ["Drills", "drill_of"]

_FILE = "drill.json"
_STATIC, _PROBES = ("TP1", "TP2"), "TP3"
_LIVE = ("TP321",)
"""Reads a live target's own tenants; the copy is attacked with two fresh ones instead."""


class Drills:
    """Runs the drill when a control first asks for it; all workers of a run then read the same record."""

    def __init__(self, run: "EvidencePlugin") -> None:
        self._run = run

    @property
    def class_(self) -> str:
        return self._run.settings.target(self._run.target).class_

    @property
    def settings(self) -> Settings:
        return self._run.settings

    def record(self) -> Drill:
        """Raises NotRun, with the remedy, where there is no store or no private key."""
        folder, _ = self._run.shared()
        with (folder / "drill.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = drill_of(folder)
            if found is None:
                found = _run_drill(self._run)
                with os.fdopen(os.open(folder / _FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                    json.dump(found.to_json(), out)
        return found


def drill_of(folder: Path) -> Drill | None:
    """The drill that this run did, or None."""
    path = folder / _FILE
    if not path.is_file():
        return None
    data: dict[str, Any] = json.loads(path.read_bytes())
    return Drill(**data | {"controls": tuple(map(tuple, data["controls"])), "guard": tuple(data["guard"])})


def _run_drill(run: "EvidencePlugin") -> Drill:
    with contextlib.ExitStack() as stack:
        try:
            storage = stack.enter_context(_storage(run))
            pair = storage.private()
        except TenantproofError as error:
            raise NotRun(str(error)) from error
        store = stack.enter_context(contextlib.closing(open_store(storage.store)))
        key_store = stack.enter_context(contextlib.closing(open_store(storage.key_store)))
        beside = run.settings.drill.place == "target"
        rehearsed = stack.enter_context(
            rehearse(
                DrillRequest(
                    source=storage.target,
                    settings=storage.settings,
                    store=store,
                    key_store=key_store,
                    trusted=storage.trusted,
                    pair=pair,
                    target=run.target,
                    dsn=run.settings.dsn(run.target, "WRITER") if beside else "",
                )
            )
        )
        drill = _judged(rehearsed, run.settings)
        drill = _guarded(drill, rehearsed.manifest, run, storage.target)
    return replace(drill, recorded=_recorded(drill, run, storage.target))


@contextlib.contextmanager
def _storage(run: "EvidencePlugin") -> Iterator[BackupStorage]:
    """Of the target whose backups are rehearsed."""
    source = run.settings.drill.source or run.target
    if run.target in BUILT_IN:
        with open_storage(run) as storage:
            yield storage
        return
    run.settings.target(source)
    backup, root = run.settings.backup, run.settings.root
    specs = store_spec(backup, source, root), key_store_spec(backup, source, root)
    yield BackupStorage(run.settings, source, *specs, trusted_keys(run.settings))


def _judged(rehearsed: Rehearsed, settings: Settings) -> Drill:
    """What the invariant and row-security controls say of the copy, and what attacks on it show."""
    if not rehearsed.dsn:
        return rehearsed.drill
    with connect(rehearsed.dsn) as connection:
        catalog = Catalog(read_snapshot(connection), settings)
        probes, stored = probe(connection, catalog), scan(connection, catalog)
    results = [judge(i, catalog) for i in static_ids() if i.startswith(_STATIC)]
    attacked = (i for i in functions() if i.startswith(_PROBES) and i not in _LIVE)
    results += [judge(i, catalog, probes=probes, stored=stored) for i in attacked]
    bad = [r for r in results if r.outcome not in (Outcome.PASSED, Outcome.NOT_APPLICABLE)]
    found = [(r.control, f.object, f.detail) for r in bad for f in r.findings]
    found += [(r.control, "", r.reason) for r in bad if not r.findings]
    drill = replace(rehearsed.drill, judged=len(results), controls=tuple(found))
    return replace(drill, stage="controls", error=f"{len(bad)} controls are not green") if bad else drill


def _guarded(drill: Drill, manifest: Manifest | None, run: "EvidencePlugin", source: str) -> Drill:
    """Asks the guard about productions, and it has to refuse each: every live target as configured; and the
    source's own database, if this run is on it, even if somebody had configured it as a target of restores."""
    if manifest is None:
        return drill
    settings = run.settings
    live = sorted(name for name, target in settings.targets.items() if target.class_ == "live")
    let = [name for name in live if not list(refusals(settings, name, run.dsn, os.environ))]
    if source == run.target:
        careless = replace(settings, targets={source: TargetSettings(class_="staging", restorable=True)})
        with connect(run.dsn, read_only=True) as server, contextlib.suppress(RestoreError):
            require_restorable(careless, source, run.dsn, manifest, server, server, environment={})
            let.append(source)
    return replace(drill, guard=tuple(let), guarded=len(live) + (source == run.target))


def _recorded(drill: Drill, run: "EvidencePlugin", source: str) -> str:
    """ "" when the source's restore_drills has it, else why not."""
    variable = environment_name(source, "WRITER_DSN")
    dsn = run.dsn if run.target in BUILT_IN else os.environ.get(variable, "").strip()
    if not dsn:
        return f"{variable} is not set"
    try:
        return "" if record_drill(dsn, drill.row()) else "there is no table public.restore_drills"
    except TenantproofError as error:
        return error.message
