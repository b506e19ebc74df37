"""One backup: snapshot, copy, verify, sign. The manifest is written last, or not at all."""

import contextlib
import hashlib
import itertools
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest.dsse import envelope, open_envelope
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.backup import runs
from pytest_tenantproof.backup.copy import Copied
from pytest_tenantproof.backup.counts import count_all
from pytest_tenantproof.backup.crew import Crew
from pytest_tenantproof.backup.crypto import Recipient, data_key_id, new_data_key
from pytest_tenantproof.backup.events import BackupFailed, failure
from pytest_tenantproof.backup.format import Fingerprint, SegmentWriter, segment_context
from pytest_tenantproof.backup.keyring import key_objects
from pytest_tenantproof.backup.manifest import (
    CATALOG_TABLE,
    PAYLOAD_TYPE,
    SCHEMA_TABLE,
    Archive,
    Manifest,
    ManifestTable,
    PackObject,
    PreviousRun,
    Segment,
    Source,
    manifest_name,
)
from pytest_tenantproof.backup.manifest_json import manifest_from_json, manifest_to_json
from pytest_tenantproof.backup.naming import OPEN_SCRIPT, key_name
from pytest_tenantproof.backup.recipients import all_recipients
from pytest_tenantproof.backup.snapshot import HeldSnapshot, hold_snapshot, limits
from pytest_tenantproof.backup.source import (
    dump_schema,
    find_pg_dump,
    read_extras,
    read_ledger,
    read_roles,
    read_sequences,
    read_source,
)
from pytest_tenantproof.backup.store import DiscardStore, Store, StoreSpec, open_store
from pytest_tenantproof.backup.units import Job, plan_units
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import BackupError, StoreError

__all__ = ["BackupRequest", "BackupResult", "new_run_id", "run_backup"]


def _silent(done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRequest:
    """What to back up, where to.

    `now` is this machine's time, UTC; `run` is made by `new_run_id` ("" for one made here); `progress` is told
    (bytes done, bytes in all), both estimates. Without `fingerprints` a backup is quicker and of no use, since
    nothing restored from it compares equal: that is for measuring what they cost.
    """

    target: str
    dsn: str = field(repr=False)
    settings: Settings
    store: StoreSpec
    key_store: StoreSpec
    signer: Signer
    now: datetime
    run: str = ""
    dry_run: bool = False
    fingerprints: bool = True
    progress: Callable[[int, int], None] = _silent


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A backup that was verified: its objects are there, its signature holds. In a dry run nothing was kept."""

    run: str
    manifest: Manifest
    manifest_sha256: str
    cleaned: runs.Cleaned
    dry_run: bool

    @property
    def stored_bytes(self) -> int:
        return sum(pack.size for pack in self.manifest.objects)

    def row(self, store: str) -> dict[str, Any]:
        """What backup_runs is told."""
        m = self.manifest
        return {
            "run": self.run,
            "target": m.target,
            "started_at": m.started,
            "finished_at": m.finished,
            "outcome": "completed",
            "manifest_sha256": self.manifest_sha256,
            "store": store,
            "tables": len(m.tables),
            "tenants": len(m.tenants),
            "rows": m.rows(),
            "bytes": self.stored_bytes,
            "tool_version": m.tool_version,
        }


def run_backup(request: BackupRequest, *, store: Store | None = None, key_store: Store | None = None) -> BackupResult:
    """Makes one backup, and removes what interrupted ones left. Raises BackupFailed with stage and run id.

    Whatever interrupts it, the store then holds no manifest of this run, so it is no backup; its objects are
    removed now if that is still possible, else by the next run. Open stores may be passed in; worker
    processes open their own.
    """
    run = request.run or new_run_id(request.now)
    try:
        recipients = _recipients(request.settings, run)
        with contextlib.ExitStack() as stack:
            store = store or _opened(request.store, request.dry_run, stack)
            key_store = key_store or _opened(request.key_store, request.dry_run, stack)
            crew = stack.enter_context(Crew(run, request.settings.backup.workers))
            held = stack.enter_context(hold_snapshot(request.dsn, request.settings, run))
            return _Run(request, run, recipients, store, key_store, held).make(crew)
    except Exception as error:
        raise failure(error, run) from error


def new_run_id(now: datetime) -> str:
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def _opened(spec: StoreSpec, dry_run: bool, stack: contextlib.ExitStack) -> Store:
    store = DiscardStore() if dry_run else open_store(spec)
    stack.callback(store.close)
    return store


def _recipients(settings: Settings, run: str) -> tuple[Recipient, ...]:
    try:
        return all_recipients(settings.backup)
    except BackupError as error:
        raise BackupFailed("encryption", run, error.message, remedy=error.remedy) from error


class _Run:
    """The state of one run, from held snapshot to manifest."""

    def __init__(
        self,
        request: BackupRequest,
        run: str,
        recipients: tuple[Recipient, ...],
        store: Store,
        key_store: Store,
        held: HeldSnapshot,
    ) -> None:
        self.request, self.run, self.recipients = request, run, recipients
        self.store, self.key_store, self.held = store, key_store, held
        self.tables_sha256 = held.plan.tables_sha256
        tenants = sorted({t for counted in held.counts for t in counted.rows if t is not None})
        self.keys: dict[str | None, bytes] = {t: new_data_key() for t in (None, *tenants)}
        self.catalog = b""
        self.pg_dump: Path | None = None
        self.texts: tuple[PackObject, list[Segment]] | None = None
        self.totals = dict[str, int]()

    def make(self, crew: Crew) -> BackupResult:
        source = read_source(self.held.connection)
        claimed = {"system_identifier": source.system_identifier, "database": source.database}
        cleaned = runs.clean_unfinished(self.store, self.key_store, claimed, now=self.request.now)
        previous = runs.newest_run(self.store)
        before = runs.manifest_digest(self.store, previous.id) if previous else None
        try:
            self.store.put(runs.claim_name(self.run), runs.claim(self.run, claimed))
            copied = self._copy(crew, source)
            manifest = self._manifest(source, before, copied)
            return BackupResult(self.run, manifest, self._finish(manifest), cleaned, self.request.dry_run)
        except BaseException:
            self._forget()
            raise

    def _copy(self, crew: Crew, source: Source) -> list[Copied]:
        """Units in the workers; the schema and the wrapped keys meanwhile, here."""
        settings, request = self.request.settings.backup, self.request
        counts = self.held.counts
        units = plan_units(self.run, self.held.plan, [counted.rows for counted in counts], self.keys)
        job = Job(
            request.dsn,
            self.held.id,
            self.run,
            self.held.plan.tables,
            self.tables_sha256,
            settings.level,
            tuple(place for place, counted in enumerate(counts) if not counted.exact),
            limits(request.settings) | {"application_name": f"tenantproof-backup-{self.run}"},
            fingerprints=request.fingerprints,
        )
        total, finished = sum(unit.size for unit in units), 0

        def done(size: int) -> None:
            nonlocal finished
            finished += size
            request.progress(finished, total)

        spec = StoreSpec("discard:") if request.dry_run else request.store
        crew.begin(job, self.store, spec)
        limit = settings.max_minutes * 60
        return crew.copy_all(units, seconds=limit, aside=lambda: self._aside(source), done=done)

    def _aside(self, source: Source) -> None:
        objects = key_objects(self.run, self.keys, self.recipients)
        self.key_store.put_many((name, keys.to_json()) for name, keys in objects.items())
        self.store.put(OPEN_SCRIPT, open_script(), replace=True)
        self.catalog = _catalog(self.held)
        self.pg_dump = find_pg_dump(int(source.server_version.split(".")[0]))
        texts: dict[str, Iterable[bytes]] = {CATALOG_TABLE: [self.catalog]}
        if self.pg_dump is not None:
            texts[SCHEMA_TABLE] = dump_schema(self.pg_dump, self.request.dsn, self.held.id)
        self.texts = self._write_texts(texts)
        for table, counted in zip(self.held.plan.tables, self.held.counts, strict=True):
            exact = sum(counted.rows.values())
            self.totals[table.name] = exact if counted.exact else count_all(self.held.connection, table)

    def _write_texts(self, texts: Mapping[str, Iterable[bytes]]) -> tuple[PackObject, list[Segment]]:
        writer = self.store.writer(f"runs/{self.run}/schema.tpb", lock=True)
        segments, offset = [], 0
        try:
            for name, pieces in texts.items():
                context = segment_context(self.run, None, name, self.tables_sha256)
                level = self.request.settings.backup.level
                segment = SegmentWriter(writer.write, self.keys[None], context, level=level)
                for piece in pieces:
                    segment.write(piece)
                d = segment.close()
                sizes = (offset, d.length, 0, d.bytes, d.sha256, d.encrypted_sha256, Fingerprint().hex())
                segments.append(Segment(name, f"runs/{self.run}/schema.tpb", *sizes))
                offset += d.length
            stored = writer.commit()
        finally:
            writer.abort()
        return PackObject(stored.name, stored.size, stored.sha256, stored.version), segments

    def _manifest(self, source: Source, before: PreviousRun | None, copied: Sequence[Copied]) -> Manifest:
        connection = self.held.connection
        extensions, missing = read_extras(connection)
        segments: dict[str | None, list[Segment]] = {tenant: [] for tenant in self.keys}
        for tenant, segment in (item for unit in copied for item in unit.segments):
            segments[tenant].append(segment)
        self._require_whole(segments)
        packs = [unit.pack for unit in copied]
        assert self.texts is not None
        packs.append(self.texts[0])
        segments[None] += self.texts[1]
        if self.pg_dump is None:
            missing = (*missing, "the schema: no pg_dump of the server's major version was found")
        return Manifest(
            run=self.run,
            target=self.request.target,
            started=self.request.now.isoformat(),
            snapshot_at=self.held.at.isoformat(),
            finished=runs.utcnow().isoformat(),
            tool_version=metadata.version("pytest-tenantproof"),
            source=source,
            catalog_sha256=hashlib.sha256(self.catalog).hexdigest(),
            previous=before,
            recipients=tuple(r.id for r in self.recipients),
            tables=tuple(
                ManifestTable(t.name, t.columns, t.tenant_from, self.totals[t.name]) for t in self.held.plan.tables
            ),
            objects=tuple(sorted(packs, key=lambda pack: pack.name)),
            archives=tuple(
                Archive(tenant, key_name(self.run, tenant), data_key_id(key), tuple(segments[tenant]))
                for tenant, key in self.keys.items()
            ),
            sequences=read_sequences(connection),
            roles=read_roles(connection),
            ledger=read_ledger(connection),
            schema_dump=f"pg_dump {source.server_version.split('.')[0]}" if self.pg_dump else "",
            extensions=extensions,
            not_included=(*self.held.plan.not_included, *missing),
        )

    def _require_whole(self, segments: Mapping[str | None, Sequence[Segment]]) -> None:
        rows = dict.fromkeys(self.totals, 0)
        for segment in itertools.chain.from_iterable(segments.values()):
            rows[segment.table] += segment.rows
        for table, number in rows.items():
            if number != self.totals[table]:
                raise BackupError(
                    f"{table} gave {number} rows where {self.totals[table]} were counted.",
                    remedy="check its indexes (amcheck), and run again.",
                )

    def _finish(self, manifest: Manifest) -> str:
        """Signs and writes the manifest, when everything it names is there; then reads it back."""
        body = manifest_to_json(manifest)
        if manifest_from_json(body, run=self.run) != manifest:
            raise BackupError("the manifest reads back differently.", remedy="report this with the run id.")
        if not self.held.alive():
            raise BackupError("the snapshot's session ended during the backup.", remedy="run again.")
        signer = self.request.signer
        signed = envelope(body, signer, PAYLOAD_TYPE)
        if not self.request.dry_run:
            runs.verify_objects(self.store, manifest)
            self._verify_keys()
            self.store.put(manifest_name(self.run), signed, lock=True)
            if b"".join(self.store.read(manifest_name(self.run))) != signed:
                raise StoreError("the manifest reads back differently.", remedy="check the store; run again.")
            open_envelope(signed, {signer.key_id: signer.public}, PAYLOAD_TYPE)
        return hashlib.sha256(signed).hexdigest()

    def _verify_keys(self) -> None:
        there = {stored.name for stored in self.key_store.list(f"keys/{self.run}/")}
        if missing := {key_name(self.run, tenant) for tenant in self.keys} - there:
            raise StoreError(f"{len(missing)} wrapped keys are missing.", remedy="check the key store; run again.")

    def _forget(self) -> None:
        """Removes what this run wrote, as far as that is still possible; the next run removes the rest."""
        with contextlib.suppress(StoreError):
            self.store.abort_partial(f"runs/{self.run}/")
            for run in runs.find_runs(self.store):
                if run.id == self.run:
                    runs.remove_run(self.store, self.key_store, run)


def _catalog(held: HeldSnapshot) -> bytes:
    # Imported here: workers import this module too, and a catalog's reader takes as long as all the rest.
    from pytest_tenantproof.catalog import read_snapshot, to_json

    return to_json(read_snapshot(held.connection))


def open_script() -> bytes:
    """docs/open_backup.py: from the installed package, or from the source tree."""
    packaged = resources.files("pytest_tenantproof") / "_docs" / "open_backup.py"
    if packaged.is_file():
        return packaged.read_bytes()
    return (Path(__file__).parents[2] / "docs" / "open_backup.py").read_bytes()
