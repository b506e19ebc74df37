"""Where the backups of a run are: the configured store, or one made for a built-in target, with a first backup."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tenantproof.attest.sign import Signer, key_id, new_seed
from pytest_tenantproof.backup import BackupKeypair, StoreSpec, key_store_spec, parse_private, store_spec
from pytest_tenantproof.backup.crypto import new_keypair
from pytest_tenantproof.backup.inspect import Backups
from pytest_tenantproof.backup.record import record_backup
from pytest_tenantproof.backup.run import BackupRequest, run_backup
from pytest_tenantproof.backup.trust import private_key, trusted_keys
from pytest_tenantproof.config import Settings
from pytest_tenantproof.control import NotRun
from pytest_tenantproof.demo.s3server import BUCKET, KEY_BUCKET, S3Server, start_s3
from pytest_tenantproof.errors import TenantproofError
from pytest_tenantproof.plugin.clocks import utc

if TYPE_CHECKING:
    from pytest_tenantproof.plugin.session import EvidencePlugin

__all__ = ["BackupStorage", "newest_backup", "note_backup", "open_storage"]

BUILT_IN = ("embedded", "container")
_NEWEST = "backup.json"


@dataclass(frozen=True, slots=True)
class BackupStorage:
    """Where the target's backups are. `settings` has the [tenantproof.backup] that is in force, `trusted` whose
    signatures count; `reader` is there for the built-in targets alone, made for this run and gone with it."""

    settings: Settings
    target: str
    store: StoreSpec
    key_store: StoreSpec
    trusted: Mapping[str, bytes]
    reader: BackupKeypair | None = field(default=None, repr=False)

    def private(self) -> BackupKeypair:
        """The private key that restores need. Raises ConfigError when there is none, BackupError for a bad one."""
        if self.reader is not None:
            return self.reader
        return private_key(self.settings)


@contextlib.contextmanager
def open_storage(run: "EvidencePlugin") -> Iterator[BackupStorage]:
    """The storage for a whole session. Raises NotRun, with the remedy, where the target has none."""
    if run.target in BUILT_IN:
        with pytest.MonkeyPatch.context() as environment:
            yield _own(run, environment)
        return
    backup = run.settings.backup
    try:
        spec = store_spec(backup, run.target, run.settings.root)
        keys = key_store_spec(backup, run.target, run.settings.root)
        storage = BackupStorage(run.settings, run.target, spec, keys, trusted_keys(run.settings))
    except TenantproofError as error:
        raise NotRun(str(error)) from error
    yield storage


def _own(run: "EvidencePlugin", environment: pytest.MonkeyPatch) -> BackupStorage:
    """Made by the first worker that asks, and shared by all."""
    folder, pid = run.shared()
    state = folder / "backup.json"
    with (folder / "backup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not state.is_file():
            _make(run, folder, pid, state, environment)
    data = json.loads(state.read_bytes())
    _credentials(environment, S3Server(data["endpoint"], data["writer"], ("", "")))
    return _described(run, data)


def _make(run: "EvidencePlugin", folder: Path, pid: int, state: Path, environment: pytest.MonkeyPatch) -> None:
    server = start_s3(folder, pid)
    _credentials(environment, server)
    reader, escrow, signer = new_keypair(), new_keypair(), Signer(new_seed())
    data = {
        "endpoint": server.endpoint,
        "writer": server.writer,
        "reader": reader.private_text,
        "recipients": [reader.recipient.text],
        "escrow": [escrow.recipient.text],
        "signer": signer.public.hex(),
    }
    _first_backup(run, _described(run, data), signer)
    with os.fdopen(os.open(state, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(data, out)


def _credentials(environment: pytest.MonkeyPatch, server: S3Server) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        environment.delenv(name, raising=False)
    environment.setenv("AWS_ACCESS_KEY_ID", server.writer[0])
    environment.setenv("AWS_SECRET_ACCESS_KEY", server.writer[1])
    environment.setenv("NO_PROXY", "127.0.0.1")


def _described(run: "EvidencePlugin", data: Mapping[str, Any]) -> BackupStorage:
    backup = replace(
        run.settings.backup,
        store=f"s3://{BUCKET}",
        key_store=f"s3://{KEY_BUCKET}",
        endpoint=data["endpoint"],
        region="us-east-1",
        checksums="sha256",
        lock_mode="compliance",
        lock_days=1,
        recipients=tuple(data["recipients"]),
        escrow=tuple(data["escrow"]),
        private_key_file="",
        workers=0,
    )
    settings, public = replace(run.settings, backup=backup), bytes.fromhex(data["signer"])
    return BackupStorage(
        settings,
        run.target,
        store_spec(backup, run.target, settings.root),
        key_store_spec(backup, run.target, settings.root),
        {key_id(public): public},
        parse_private(data["reader"]),
    )


def note_backup(run: "EvidencePlugin", backups: Backups) -> None:
    """Leaves the newest verified backup, where a control looked for one, to the controller's report."""
    if "examined" not in vars(backups) or (newest := backups.examined.newest) is None:
        return
    folder, _ = run.shared()
    told = {
        "run": newest.run,
        "manifest_sha256": newest.manifest_sha256,
        "snapshot_at": utc(newest.snapshot_at),
        "stored_bytes": newest.stored_bytes,
        "verified": len(backups.examined.verified),
    }
    part = folder / f"{_NEWEST}.{os.getpid()}"
    part.write_text(json.dumps(told))
    part.replace(folder / _NEWEST)


def newest_backup(folder: Path) -> dict[str, Any] | None:
    """What a control of this run saw of the newest verified backup, or None."""
    path = folder / _NEWEST
    return dict(json.loads(path.read_bytes())) if path.is_file() else None


def _first_backup(run: "EvidencePlugin", storage: BackupStorage, signer: Signer) -> None:
    run.prepared()
    result = run_backup(
        BackupRequest(
            target=run.target,
            dsn=run.dsn,
            settings=storage.settings,
            store=storage.store,
            key_store=storage.key_store,
            signer=signer,
            now=datetime.now(UTC),
        )
    )
    record_backup(run.dsn, result.row(storage.store.url))
