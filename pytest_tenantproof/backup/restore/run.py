"""One restore: verify, rebuild beside, compare, and only then take the place of what was there."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pytest_tenantproof.backup.crypto import BackupKeypair
from pytest_tenantproof.backup.erasure import erased_tenants
from pytest_tenantproof.backup.keyring import KeyRing
from pytest_tenantproof.backup.manifest import TEXTS, Manifest, RoleNeeded, SequenceState
from pytest_tenantproof.backup.restore.build import (
    create_roles,
    finish_schema,
    missing_roles,
    require_validated,
    start_schema,
)
from pytest_tenantproof.backup.restore.compare import compare_rows
from pytest_tenantproof.backup.restore.definitions import changed_definitions
from pytest_tenantproof.backup.restore.dump import SchemaDump, parse_dump
from pytest_tenantproof.backup.restore.empty import NOTHING_KEPT, Kept, empty, require_emptiable, set_mark
from pytest_tenantproof.backup.restore.guard import require_restorable
from pytest_tenantproof.backup.restore.load import Source, in_parallel, load_pack, read_catalog, read_schema, session
from pytest_tenantproof.backup.restore.place import COPY_MARK, UNFINISHED, Place, open_place
from pytest_tenantproof.backup.restore.tenant import TableDiff, restore_tenant
from pytest_tenantproof.backup.runs import load_manifest, verify_objects
from pytest_tenantproof.backup.source import read_ledger, read_sequences
from pytest_tenantproof.backup.store import Store
from pytest_tenantproof.catalog import read_snapshot
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import BackupError, RestoreError
from pytest_tenantproof.target import connect

__all__ = ["Rebuilt", "RestoreRequest", "RestoreResult", "open_source", "rebuild", "run_restore", "run_tenant_restore"]


def _silent(done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """`run` is the backup's id; `dsn` the writer's connection string of the target, whose database is replaced;
    `trusted` whose signatures count (key id -> public key). `put_back` (one tenant): rows that differ too.
    `in_place`: into the target's own database, emptied first, where the server allows no other."""

    run: str
    target: str
    dsn: str = field(repr=False)
    settings: Settings
    store: Store
    key_store: Store
    trusted: Mapping[str, bytes]
    pair: BackupKeypair
    dry_run: bool = False
    put_back: bool = False
    in_place: bool = False
    progress: Callable[[int, int], None] = _silent


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A database that holds what the manifest says, compared. `definitions` are objects that are not as they were,
    which only another major version explains; `seconds` by stage."""

    tables: int
    tenants: int
    rows: int
    definitions: tuple[str, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """`skipped` are erased tenants, which are not brought back; `roles` were (would be) created."""

    manifest: Manifest
    database: str
    skipped: tuple[str, ...]
    roles: tuple[str, ...]
    swept: tuple[str, ...]
    rebuilt: Rebuilt | None


def open_source(store: Store, key_store: Store, run: str, trusted: Mapping[str, bytes], pair: BackupKeypair) -> Source:
    """The backup, its signature verified, its objects in place, its keys unwrapped, the erasure list honoured.

    Raises BackupError, FormatError or StoreError.
    """
    manifest = load_manifest(store, run, trusted)
    verify_objects(store, manifest)
    ring = KeyRing(key_store, manifest, pair)
    erased = frozenset(erased_tenants(store, trusted))
    gone = {a.tenant for a in manifest.archives if a.tenant is not None and (a.tenant in erased or ring.erased(a))}
    source = Source(store, ring, frozenset(t for t in gone if t is not None))
    source.unwrap()
    return source


def run_restore(request: RestoreRequest) -> RestoreResult:
    """Replaces the target's database by the backup. Whatever fails before the end leaves it as it was.

    Raises RestoreError (refused, or not equal to the manifest), BackupError, TargetUnreachable.
    """
    source = open_source(request.store, request.key_store, request.run, request.trusted, request.pair)
    with open_place(request.dsn, inside=request.in_place) as place:
        _guard(request, place, source.manifest)
        kept = None
        if request.in_place:
            kept = require_emptiable(place.server, source.manifest, parse_dump(read_schema(source)))
        roles = missing_roles(place.server, source.manifest)
        told = (source.manifest, place.database, tuple(sorted(source.skipped)), tuple(r.name for r in roles))
        if request.dry_run:
            return RestoreResult(*told, (), None)
        if kept is not None:
            return RestoreResult(*told, (), _refill(request, place, source, roles, kept))
        swept = place.sweep()
        with reported():
            return RestoreResult(*told, swept, _replace(request, place, source, roles))


def run_tenant_restore(request: RestoreRequest, tenant: str) -> tuple[TableDiff, ...]:
    """Brings back one tenant's missing rows beside the others. Raises as `run_restore` does."""
    source = open_source(request.store, request.key_store, request.run, request.trusted, request.pair)
    with open_place(request.dsn) as place:
        _guard(request, place, source.manifest)
        with reported():
            return restore_tenant(
                request.dsn, source, request.settings, tenant, dry_run=request.dry_run, put_back=request.put_back
            )


def _replace(request: RestoreRequest, place: Place, source: Source, roles: tuple[RoleNeeded, ...]) -> Rebuilt:
    create_roles(place.server, roles)
    made = place.create(source.manifest.source.encoding)
    try:
        rebuilt = rebuild(place.dsn_of(made), source, request.settings, progress=request.progress)
        place.swap(made, f"of backup {request.run}, not production")
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            place.drop(made)
        raise
    return rebuilt


def _refill(
    request: RestoreRequest, place: Place, source: Source, roles: tuple[RoleNeeded, ...], kept: Kept
) -> Rebuilt:
    """The database counts for nothing from its first change to its last; a failure empties it again."""
    unfinished = f"{COPY_MARK} {UNFINISHED} of backup {request.run}: it counts for nothing, restore again"
    with reported():
        create_roles(place.server, roles)
        empty(place.server, kept, unfinished)
    try:
        rebuilt = rebuild(request.dsn, source, request.settings, progress=request.progress, kept=kept)
        set_mark(place.server, f"{COPY_MARK} of backup {request.run}, not production")
    except BaseException as error:
        with contextlib.suppress(psycopg.Error, RestoreError):
            empty(place.server, kept, unfinished)
        if not isinstance(error, psycopg.Error | BackupError):
            raise
        text = error.message if isinstance(error, BackupError) else type(error).__name__
        raise RestoreError(
            f"{place.database} was emptied and the restore into it failed, so nothing there counts as evidence: {text}",
            remedy="mend what the message names, and restore again.",
        ) from None
    return rebuilt


def _guard(request: RestoreRequest, place: Place, manifest: Manifest) -> None:
    with contextlib.ExitStack() as stack:
        database = None
        if place.exists():
            database = stack.enter_context(connect(request.dsn, read_only=True))
        require_restorable(request.settings, request.target, request.dsn, manifest, place.server, database)
    if place.server.info.server_version // 10000 < int(manifest.source.server_version.split(".")[0]):
        raise RestoreError(
            f"the server is older than the backup's ({manifest.source.server_version}).",
            remedy="restore to the same major version or a newer one.",
        )


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Of a database error only its class is told: its text may hold row content."""
    try:
        yield
    except psycopg.Error as error:
        raise RestoreError(
            f"nothing was replaced: {type(error).__name__} ({error.sqlstate or 'connection lost'}).",
            remedy="check the database's log and that it is up; restore again.",
        ) from None


def rebuild(
    dsn: str,
    source: Source,
    settings: Settings,
    *,
    progress: Callable[[int, int], None] = _silent,
    begins: Callable[[str], None] = lambda _: None,
    kept: Kept = NOTHING_KEPT,
) -> Rebuilt:
    """Fills the empty database of `dsn` and compares it with the manifest; `begins` is told each stage. What is
    `kept` there is neither made nor compared.

    Raises RestoreError when anything differs, FormatError for a damaged backup, psycopg.Error.
    """
    clock, manifest, workers = _Clock(begins), source.manifest, settings.backup.workers
    clock.stage("schema")
    dump = parse_dump(read_schema(source)).without(kept.schemas, kept.extensions)
    start_schema(dsn, dump)
    clock.stage("rows")
    _load(dsn, source, workers, progress)
    clock.stage("constraints")
    finish_schema(dsn, dump, workers)
    with session(dsn) as connection:
        for state in _product(manifest.sequences, kept):
            connection.execute(
                "SELECT pg_catalog.setval(%s::regclass, %s, %s)", [state.name, state.last_value, state.is_called]
            )
    clock.stage("comparison")
    archives = tuple(source.included())
    definitions, same_major = _definitions(dsn, source, kept.schemas)
    differs = list(_schema_differs(dsn, dump, manifest, kept))
    differs += compare_rows(dsn, settings, manifest, archives, workers=workers, kept=kept)
    differs += definitions if same_major else ()
    if differs:
        more = f" and {len(differs) - 5} more" if len(differs) > 5 else ""
        raise RestoreError(
            f"what was restored is not what was backed up: {'; '.join(differs[:5])}{more}.",
            remedy="use another backup, and report this with the run id.",
        )
    clock.end()
    rows = sum(s.rows for archive in archives for s in archive.segments)
    return Rebuilt(len(manifest.tables), sum(a.tenant is not None for a in archives), rows, definitions, clock.seconds)


def _load(dsn: str, source: Source, workers: int, progress: Callable[[int, int], None]) -> None:
    packs = sorted(source.manifest.objects, key=lambda pack: -pack.size)
    total = sum(s.bytes for a in source.included() for s in a.segments if s.table not in TEXTS)
    done = 0

    def loaded(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    def load(connection: psycopg.Connection[Any], pack: Any) -> None:
        load_pack(connection, source, pack, loaded)

    in_parallel(dsn, packs, load, workers)


def _definitions(dsn: str, source: Source, ignored: frozenset[str]) -> tuple[tuple[str, ...], bool]:
    """What is not as it was, and whether the server is of the backup's major version: another one may add to what
    it was given (names for NOT NULL, a privilege more in ALL), so there it is told and not judged."""
    wanted = read_catalog(source)
    with connect(dsn, limits={}) as connection:
        major = str(connection.info.server_version // 10000)
        found = changed_definitions(wanted, read_snapshot(connection), ignored)
    return found, source.manifest.source.server_version.split(".")[0] == major


def _schema_differs(dsn: str, dump: SchemaDump, manifest: Manifest, kept: Kept) -> Iterator[str]:
    with connect(dsn, limits={}) as connection:
        require_validated(connection, dump, kept)
        if read_ledger(connection) != manifest.ledger:
            yield "the migration ledger differs"
        if read_sequences(connection, passed_over=kept.holds) != _product(manifest.sequences, kept):
            yield "sequences differ"


def _product(states: tuple[SequenceState, ...], kept: Kept) -> tuple[SequenceState, ...]:
    return tuple(state for state in states if not kept.holds(state.name))


class _Clock:
    """How long each stage took."""

    def __init__(self, begins: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._begins, self._current, self._since = begins, "", 0.0

    def stage(self, name: str) -> None:
        self.end()
        self._current = name
        self._begins(name)

    def end(self) -> None:
        now = time.monotonic()
        if self._current:
            self.seconds[self._current] = round(now - self._since, 3)
        self._since = now
