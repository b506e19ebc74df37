"""A rehearsal: the newest backup, downloaded, verified, decrypted, restored elsewhere and compared."""

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal, Protocol

import psycopg

from pytest_tenantproof.backup.crypto import BackupKeypair
from pytest_tenantproof.backup.examine import Verified, examine_all
from pytest_tenantproof.backup.manifest import Manifest
from pytest_tenantproof.backup.restore import open_source, rebuild
from pytest_tenantproof.backup.restore.build import create_roles, missing_roles
from pytest_tenantproof.backup.restore.guard import require_restorable
from pytest_tenantproof.backup.restore.load import Source
from pytest_tenantproof.backup.restore.place import open_place
from pytest_tenantproof.backup.runs import newest_run
from pytest_tenantproof.backup.store import Store
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import BackupError, FormatError, StoreError, TenantproofError
from pytest_tenantproof.target import connect, embedded

__all__ = ["STAGES", "Drill", "DrillRequest", "DrillSource", "Rehearsed", "rehearse"]

Stage = Literal["verify", "decrypt", "restore", "compare", "controls"]
STAGES: tuple[Stage, ...] = ("verify", "decrypt", "restore", "compare", "controls")


@dataclass(frozen=True, slots=True)
class Drill:
    """What became of a drill. `stage` and `error` say where and why it failed; both are "" when it did not.

    `rpo_seconds` is the age of the backup when the drill began, `rto_seconds` the time from its first request to the
    compared copy; both are None when it did not get there. `recorded` is "" when restore_drills has it, else why not;
    `controls` are findings of controls on the copy as (control, object, detail); `judged` how many controls that were.
    """

    drill: str
    target: str
    started: str
    finished: str = ""
    run: str = ""
    manifest_sha256: str = ""
    restored_to: str = ""
    stage: Stage | Literal[""] = ""
    error: str = ""
    rpo_seconds: float | None = None
    rto_seconds: float | None = None
    tables: int = 0
    tenants: int = 0
    rows: int = 0
    skipped: int = 0
    stored_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    judged: int = 0
    controls: tuple[tuple[str, str, str], ...] = ()
    guard: tuple[str, ...] = ()
    """Productions that a restore would have been let loose on; empty is right."""
    guarded: int = 0
    """How many productions the guard was asked about."""
    recorded: str = "it was not recorded yet"

    @property
    def failed(self) -> bool:
        return bool(self.stage)

    def reached(self, stage: Stage) -> bool:
        """Whether this stage and all before it went well."""
        return not self.stage or STAGES.index(stage) < STAGES.index(self.stage)

    def row(self) -> dict[str, Any]:
        """What restore_drills is told."""
        names = ("drill", "target", "restored_to", "rpo_seconds", "rto_seconds", "tables", "tenants", "rows")
        return {name: getattr(self, name) for name in names} | {
            "run": self.run or None,
            "manifest_sha256": self.manifest_sha256 or None,
            "started_at": self.started,
            "finished_at": self.finished,
            "outcome": "failed" if self.failed else "passed",
            "stage": self.stage or None,
            "error": self.error or None,
            "tool_version": metadata.version("pytest-tenantproof"),
        }

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def told(self) -> dict[str, Any]:
        """What the report says of it."""
        names = ("drill", "run", "manifest_sha256", "restored_to", "stage", "error", "rpo_seconds", "rto_seconds")
        return {name: getattr(self, name) for name in (*names, "tables", "tenants", "rows", "stored_bytes")} | {
            "source": self.target,
            "skipped_tenants": self.skipped,
            "seconds": dict(self.seconds),
            "controls_judged": self.judged,
            "recorded": not self.recorded,
        }


class DrillSource(Protocol):
    """What controls ask for the one drill of a run. `class_` is the class of the run's target."""

    @property
    def class_(self) -> str: ...

    @property
    def settings(self) -> Settings: ...

    def record(self) -> Drill: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRequest:
    """`source` is whose backup; `target` and `dsn` where to restore if the place is the target, else unused."""

    source: str
    settings: Settings
    store: Store
    key_store: Store
    trusted: Mapping[str, bytes]
    pair: BackupKeypair
    target: str = ""
    dsn: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A drill so far, and while it lasts the connection string of the restored copy ("" when there is none)."""

    drill: Drill
    manifest: Manifest | None
    dsn: str = field(repr=False)


@contextlib.contextmanager
def rehearse(request: DrillRequest) -> Iterator[Rehearsed]:
    """Never raises for a backup that is no good: the drill says so. The copy is gone when the context ends."""
    began, clock = datetime.now(UTC), time.monotonic()
    drill = Drill(f"{began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}", request.source, began.isoformat())
    with contextlib.ExitStack() as stack:
        work = _Work(request, drill, stack)
        try:
            work.go()
            rto: float | None = round(time.monotonic() - clock, 3)
        except (TenantproofError, psycopg.Error) as error:
            work.fail(error)
            rto = None
        finished = datetime.now(UTC).isoformat()
        yield Rehearsed(replace(work.drill, rto_seconds=rto, finished=finished), work.manifest, work.dsn)


class _Work:
    """The steps, and where it stands."""

    def __init__(self, request: DrillRequest, drill: Drill, stack: contextlib.ExitStack) -> None:
        self.request, self.drill, self.stack = request, drill, stack
        self.stage: Stage = "verify"
        self.manifest: Manifest | None = None
        self.dsn = ""

    def go(self) -> None:
        request = self.request
        newest = self._newest()
        age = datetime.fromisoformat(self.drill.started) - newest.snapshot_at
        self.drill = replace(
            self.drill,
            run=newest.run,
            manifest_sha256=newest.manifest_sha256,
            stored_bytes=newest.stored_bytes,
            rpo_seconds=round(age.total_seconds(), 3),
        )
        self.stage = "decrypt"
        source = open_source(request.store, request.key_store, newest.run, request.trusted, request.pair)
        self.manifest = source.manifest
        self.stage = "restore"
        where, dsn = self._place(source)
        self.drill = replace(self.drill, restored_to=where)
        made = rebuild(dsn, source, request.settings, begins=self._begins)
        self.dsn = dsn
        self.drill = replace(
            self.drill,
            tables=made.tables,
            tenants=made.tenants,
            rows=made.rows,
            seconds=dict(made.seconds),
            skipped=len(source.skipped),
        )

    def _begins(self, what: str) -> None:
        if what == "comparison":
            self.stage = "compare"

    def _newest(self) -> Verified:
        """The newest complete run, which has to verify: an older one in its place would be a replay."""
        store = self.request.store
        newest = newest_run(store)
        if newest is None:
            raise BackupError(f"{store.url} holds no backup.", remedy="run `tenantproof backup`.")
        examined = examine_all(store, self.request.trusted, self.request.source)
        if examined.newest is None or examined.newest.run != newest.id:
            reason = dict(examined.refused).get(newest.id, "it is not the newest that verifies")
            raise BackupError(f"the newest backup {newest.id} is refused: {reason}", remedy="see TP602.")
        return examined.newest

    def _place(self, source: Source) -> tuple[str, str]:
        """An empty database, and what to call where it is."""
        request, manifest = self.request, source.manifest
        if request.settings.drill.place == "target":
            place = self.stack.enter_context(open_place(request.dsn))
            with contextlib.ExitStack() as inner:
                there = inner.enter_context(connect(request.dsn, read_only=True)) if place.exists() else None
                require_restorable(request.settings, request.target, request.dsn, manifest, place.server, there)
            place.sweep()
            create_roles(place.server, missing_roles(place.server, manifest))
            name = place.create(manifest.source.encoding)
            self.stack.callback(place.drop, name)
            return f"a database beside target {request.target}", place.dsn_of(name)
        server = embedded.start(embedded.find_bin(int(manifest.source.server_version.split(".")[0])))
        self.stack.callback(server.stop)
        place = self.stack.enter_context(open_place(server.dsn("restored")))
        create_roles(place.server, missing_roles(place.server, manifest), exact=True)
        return f"a private server, PostgreSQL {server.bin.version}", place.dsn_of(
            place.create(manifest.source.encoding)
        )

    def fail(self, error: TenantproofError | psycopg.Error) -> None:
        """Of a database error only its class is told. Damage counts as not verified, wherever it showed."""
        if isinstance(error, TenantproofError):
            text = error.message
        else:
            text = f"{type(error).__name__} ({error.sqlstate or 'connection lost'})"
        damaged = isinstance(error, FormatError | StoreError)
        self.drill = replace(self.drill, stage="verify" if damaged else self.stage, error=text)
