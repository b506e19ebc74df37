"""Damaged, forged and incomplete backups, and restores that are ended halfway: staging stays as it was."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from pytest_tenantproof.attest.dsse import envelope
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.backup.crypto import new_keypair
from pytest_tenantproof.backup.manifest import PAYLOAD_TYPE
from pytest_tenantproof.errors import BackupError, FormatError, RestoreError, TenantproofError
from tests.restore.support import Stage, content, flipped


@pytest.fixture
def untouched(stage: Stage) -> Iterator[None]:
    """After the test, staging and the list of databases are as before."""
    before = content(stage.dsn), stage.databases()
    yield
    assert (content(stage.dsn), stage.databases()) == before


def root(stage: Stage) -> Path:
    return Path(urlsplit(stage.scene.store.url).path)


def packs(stage: Stage) -> list[Path]:
    return sorted((root(stage) / "runs" / stage.run).glob("*.tpb"))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("place", [0, 20, 60, 1000, -1])
def test_a_flipped_bit(stage: Stage, place: int) -> None:
    for pack in packs(stage):
        with flipped(pack, place % pack.stat().st_size), pytest.raises(FormatError):
            stage.restore()


@pytest.mark.usefixtures("untouched")
def test_a_truncated_object(stage: Stage) -> None:
    pack = packs(stage)[0]
    whole = pack.read_bytes()
    try:
        pack.write_bytes(whole[:-1])
        with pytest.raises(TenantproofError, match="another size"):
            stage.restore()
    finally:
        pack.write_bytes(whole)


@pytest.mark.usefixtures("untouched")
def test_a_wrong_private_key(stage: Stage) -> None:
    with pytest.raises(BackupError, match="cannot read this"):
        stage.restore(pair=new_keypair())


@pytest.mark.usefixtures("untouched")
def test_a_signature_that_nobody_trusts(stage: Stage) -> None:
    with pytest.raises(FormatError, match="refused"):
        stage.restore(trusted={(s := Signer(new_seed())).key_id: s.public})


@pytest.mark.usefixtures("untouched")
def test_an_old_manifest_under_a_new_name(stage: Stage) -> None:
    run = "20991231T000000Z-00000000"
    folder = root(stage) / "runs" / run
    folder.mkdir()
    manifest = folder / "manifest.json"
    try:
        manifest.write_bytes((root(stage) / "runs" / stage.run / "manifest.json").read_bytes())
        with pytest.raises(FormatError, match="it is of run"):
            stage.restore(run=run)
    finally:
        manifest.unlink()
        folder.rmdir()


def _drop_tenant(data: dict[str, object]) -> None:
    archives = data["archives"]
    assert isinstance(archives, list)
    archives.pop()


def _wrong_rows(data: dict[str, object]) -> None:
    """The fingerprint of one tenant's segment of messages, as if its rows had been others."""
    archives, tables = data["archives"], data["tables"]
    assert isinstance(archives, list)
    assert isinstance(tables, list)
    place = [t["name"] for t in tables].index("public.messages")
    for archive in archives:
        for segment in archive["segments"]:
            if segment[0] == place:
                segment[-1] = "0" * 64
                return


def _other_sequence(data: dict[str, object]) -> None:
    sequences = data["sequences"]
    assert isinstance(sequences, list)
    sequences.pop()


def _other_ledger(data: dict[str, object]) -> None:
    data["ledger"] = [{"table": "tenantproof.migrations", "version": "1"}]


def _left_out(data: dict[str, object]) -> None:
    """A table with its segments: then an object is not filled by its segments."""
    tables, archives = data["tables"], data["archives"]
    assert isinstance(tables, list)
    assert isinstance(archives, list)
    gone = [t["name"] for t in tables].index("public.scans")
    tables.pop(gone)
    for archive in archives:
        kept = [s for s in archive["segments"] if s[0] != gone]
        archive["segments"] = [[s[0] - (s[0] > gone), *s[1:]] for s in kept]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_drop_tenant, "refused|differ|rows where"),
        (_wrong_rows, "rows, but not the same"),
        (_other_sequence, "sequences differ"),
        (_other_ledger, "ledger differs"),
        (_left_out, "refused|authenticate"),
    ],
)
def test_a_manifest_that_was_signed_but_tells_something_else(
    stage: Stage, change: Callable[[dict[str, object]], None], reason: str
) -> None:
    """Even the signer cannot make a restore pass whose content is not what the manifest says."""
    import base64

    path = root(stage) / "runs" / stage.run / "manifest.json"
    before = path.read_bytes()
    data = json.loads(base64.b64decode(json.loads(before)["payload"]))
    change(data)
    try:
        path.write_bytes(envelope(json.dumps(data).encode(), stage.scene.key, PAYLOAD_TYPE))
        with pytest.raises(TenantproofError, match=reason):
            stage.restore()
    finally:
        path.write_bytes(before)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("step", ["create", "swap", "_take_over", "_end_sessions"])
def test_ended_by_an_error_at_any_step(stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    from pytest_tenantproof.backup.restore.place import Place

    def fail(*_: object) -> None:
        raise RestoreError("ended here")

    monkeypatch.setattr(Place, step, fail)
    with pytest.raises(RestoreError, match="ended here"):
        stage.restore()


@pytest.mark.usefixtures("untouched")
def test_rows_that_break_a_foreign_key_are_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constraints are enforced on what was loaded: here a tenant's rows are gone while others refer to them."""
    from pytest_tenantproof.backup.restore.load import load_pack as real

    def load_and_lose(connection: "psycopg.Connection[object]", *rest: object) -> None:
        real(connection, *rest)  # type: ignore[arg-type]
        connection.execute("DELETE FROM public.units WHERE label = 'unit 1'")

    monkeypatch.setattr("pytest_tenantproof.backup.restore.run.load_pack", load_and_lose)
    with pytest.raises(RestoreError, match="FK CONSTRAINT") as caught:
        stage.restore()
    assert "Key (" not in str(caught.value)


def test_what_a_killed_restore_left_is_swept(stage: Stage) -> None:
    with psycopg.connect(stage.server.dsn(), autocommit=True) as admin:
        for name in ("staging_tprestore_0a1b2c3d", "staging_tpreplaced_0a1b2c3d", "staging_tprestore_mine"):
            admin.execute(f"CREATE DATABASE {name}".encode())
    result = stage.restore()
    assert result.swept == ("staging_tpreplaced_0a1b2c3d", "staging_tprestore_0a1b2c3d")
    assert stage.databases() == ["postgres", "staging", "staging_tprestore_mine"]
    with psycopg.connect(stage.server.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE staging_tprestore_mine")


def test_an_erased_tenant_is_not_brought_back(stage: Stage) -> None:
    from datetime import UTC, datetime

    from pytest_tenantproof.backup.erasure import erase_tenant
    from pytest_tenantproof.backup.store import open_store

    run = stage.scene.run().run
    with psycopg.connect(stage.scene.dsn) as connection:
        row = connection.execute("SELECT id::text FROM tenants ORDER BY slug LIMIT 1").fetchone()
    assert row is not None
    store, keys = open_store(stage.scene.store), open_store(stage.scene.key_store)
    now = datetime.now(UTC)
    kept = {name.name: b"".join(keys.read(name.name)) for name in keys.list("keys/")}
    try:
        done = erase_tenant(store, keys, row[0], signer=stage.scene.key, trusted=stage.scene.keys, now=now)
        result = stage.restore(run=run)
        assert result.skipped == (row[0],)
        for name, body in kept.items():
            keys.put(name, body, replace=True)
        assert stage.restore(run=run).skipped == (row[0],)
    finally:
        for name, body in kept.items():
            keys.put(name, body, replace=True)
        store.delete(done.entry)
    with psycopg.connect(stage.dsn) as connection:
        counted = connection.execute("SELECT count(*) FROM tenants").fetchone()
        assert counted == (4,)
