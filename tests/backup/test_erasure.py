"""Erasing a tenant destroys its keys and nothing else, and is remembered."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.backup import KeyRing, load_manifest, open_store, read_plain
from pytest_tenantproof.backup.crypto import new_keypair
from pytest_tenantproof.backup.erasure import Erased, erase_tenant, erased_tenants, runs_with_key
from pytest_tenantproof.backup.keyring import key_objects, read_keys
from pytest_tenantproof.backup.naming import key_name
from pytest_tenantproof.backup.store import LocalStore, Store, Stored
from pytest_tenantproof.errors import BackupError, FormatError
from tests.backup.support import Scene, local

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def store(scene: Scene) -> Store:
    scene.run()
    scene.run()
    return open_store(scene.store)


def erase(scene: Scene, store: Store, tenant: str, now: datetime = NOW) -> Erased:
    return erase_tenant(store, store, tenant, signer=scene.key, trusted=scene.keys, now=now)


def tenants_of(scene: Scene, store: Store) -> tuple[list[str], list[str]]:
    """The runs of the store, and the tenants of the first."""
    runs = sorted({s.name.split("/")[1] for s in store.list("runs/")})
    return runs, sorted(load_manifest(store, runs[0], scene.keys).tenants)


def test_one_tenant_is_gone_from_every_backup_and_the_others_are_not(scene: Scene, store: Store) -> None:
    runs, (gone, *others) = tenants_of(scene, store)
    before = {s.name: s.size for s in store.list("runs/")}
    assert runs_with_key(store, gone) == tuple(runs)
    done = erase(scene, store, gone)
    assert done.runs == tuple(runs)
    assert runs_with_key(store, gone) == ()
    assert {s.name: s.size for s in store.list("runs/")} == before
    for run in runs:
        manifest = load_manifest(store, run, scene.keys)
        for pair in (scene.reader, scene.escrow):
            ring = KeyRing(store, manifest, pair)
            with pytest.raises(BackupError, match="was erased"):
                ring.key(manifest.tenants[gone])
            assert ring.erased(manifest.tenants[gone])
            for archive in (manifest.shared, *(manifest.tenants[t] for t in others)):
                key = ring.key(archive)
                assert all(b"".join(read_plain(store, manifest, archive, s, key)) for s in archive.segments)
    assert dict(erased_tenants(store, scene.keys)) == {gone: NOW}


def test_erasing_again_finishes_what_was_interrupted(scene: Scene, store: Store) -> None:
    runs, (gone, *_) = tenants_of(scene, store)
    name = key_name(runs[1], gone)
    kept = b"".join(store.read(name))
    first = erase(scene, store, gone)
    store.put(name, kept, replace=True)
    again = erase(scene, store, gone)
    assert again.runs == (runs[1],)
    assert again.entry == first.entry
    assert read_keys(store, name, runs[1]).keys[gone] is None
    assert len(list(store.list("erasures/"))) == 1


def test_the_list_cannot_be_shortened_in_the_middle_forged_or_read_with_a_foreign_key(
    scene: Scene, store: Store
) -> None:
    _, tenants = tenants_of(scene, store)
    for hour, tenant in enumerate(tenants[:3]):
        erase(scene, store, tenant, NOW.replace(hour=hour))
    assert list(erased_tenants(store, scene.keys)) == tenants[:3]
    stranger = Signer(new_seed())
    with pytest.raises(FormatError, match="signed by a trusted key"):
        erased_tenants(store, {stranger.key_id: stranger.public})
    names = [s.name for s in store.list("erasures/")]
    middle = b"".join(store.read(names[1]))
    store.delete(names[1])
    with pytest.raises(FormatError, match="missing or was replaced"):
        erased_tenants(store, scene.keys)
    store.put(names[1], b"".join(store.read(names[0])))
    with pytest.raises(FormatError, match="signed by a trusted key"):
        erased_tenants(store, scene.keys)
    forged = json.loads(middle) | {"signatures": json.loads(b"".join(store.read(names[0])))["signatures"]}
    for damaged in (json.dumps(forged).encode(), middle[:-10], b"", b"{}"):
        store.put(names[1], damaged, replace=True)
        with pytest.raises(FormatError):
            erased_tenants(store, scene.keys)
    store.put(names[1], middle, replace=True)
    assert list(erased_tenants(store, scene.keys)) == tenants[:3]


def test_a_manifest_is_no_entry_of_the_list(scene: Scene, store: Store) -> None:
    runs, _ = tenants_of(scene, store)
    store.put("erasures/20261124T000000Z-00000000.json", b"".join(store.read(f"runs/{runs[0]}/manifest.json")))
    with pytest.raises(FormatError, match="no erasure"):
        erased_tenants(store, scene.keys)


def test_a_tenant_that_no_backup_holds_is_still_remembered(scene: Scene, store: Store) -> None:
    assert erase(scene, store, "of long ago").runs == ()
    assert "of long ago" in erased_tenants(store, scene.keys)


def test_two_erasures_at_once_of_one_key_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reads the object before, and writes it after, the other did: the last to end carries out both."""
    store, signer, pair, run = (
        open_store(local(tmp_path)),
        Signer(new_seed()),
        new_keypair(),
        "20261124T020000Z-0a1b2c3d",
    )
    one, two, *_ = [t for t in map(str, range(500)) if key_name(run, t) == key_name(run, "0")]
    (name, wrapped), *_ = key_objects(run, {one: b"1" * 32, two: b"2" * 32}, [pair.recipient]).items()
    store.put(name, wrapped.to_json())
    real, begun = LocalStore.put, list[str]()

    def put(self: LocalStore, name: str, *rest: Any, **more: Any) -> Stored:
        if name.startswith("keys/") and not begun:
            begun.append(one)
            erased(one)
        return real(self, name, *rest, **more)

    def erased(tenant: str) -> None:
        erase_tenant(store, store, tenant, signer=signer, trusted={signer.key_id: signer.public}, now=NOW)

    monkeypatch.setattr(LocalStore, "put", put)
    erased(two)
    assert begun == [one]
    assert dict(read_keys(store, name, run).keys) == {one: None, two: None}
