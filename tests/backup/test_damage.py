"""Whole backups: every class of byte flipped, parts swapped or missing, opened without this package."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_tenantproof.backup import Manifest, Store, find_runs, load_manifest, open_store
from pytest_tenantproof.backup.examine import examine_all
from pytest_tenantproof.backup.keyring import read_keys
from pytest_tenantproof.backup.manifest import manifest_name
from pytest_tenantproof.backup.manifest_json import manifest_from_json, manifest_to_json
from pytest_tenantproof.backup.naming import OPEN_SCRIPT
from pytest_tenantproof.errors import FormatError, StoreError, TenantproofError
from pytest_tenantproof.target import find_bin
from tests.backup.support import Scene, contents, local, seed
from tests.support import REPOSITORY


@pytest.fixture
def backup(scene: Scene) -> tuple[Scene, Store, str]:
    run = scene.run().run
    return scene, open_store(scene.store), run


def path_of(scene: Scene, name: str) -> Path:
    return Path(unquote(urlsplit(scene.store.url).path)) / name


def flips(data: bytes) -> list[int]:
    """Every byte of the first and last hundred, and each 97th between."""
    return sorted({*range(min(100, len(data))), *range(max(0, len(data) - 100), len(data)), *range(0, len(data), 97)})


def test_no_flipped_bit_of_any_object_goes_unnoticed(backup: tuple[Scene, Store, str]) -> None:
    scene, store, run = backup
    whole = contents(store, scene, run)
    names = [s.name for s in store.list() if s.name not in (OPEN_SCRIPT, f"runs/{run}/claim.json")]
    assert {Path(name).suffix for name in names} == {".tpb", ".json"}
    tried = 0
    for name in names:
        path = path_of(scene, name)
        good = path.read_bytes()
        places = flips(good) if "pack" in name or "manifest" in name else flips(good)[::9]
        for at in places[:: 1 if len(places) < 400 else 5]:
            path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
            tried += 1
            try:
                same = contents(store, scene, run) == whole
            except (TenantproofError, UnicodeDecodeError):
                continue
            # A key object is not signed: what is flipped there may be another recipient's box, or JSON's white space.
            assert same, f"{name} byte {at}"
            assert name.startswith("keys/"), f"{name} byte {at} went unnoticed"
        path.write_bytes(good)
    assert tried > 300
    assert contents(store, scene, run) == whole


def test_parts_of_another_run_or_tenant_do_not_fit(scene: Scene) -> None:
    one, two = scene.run().run, scene.run().run
    store = open_store(scene.store)
    for name in ("pack-00001.tpb", "schema.tpb"):
        mine, theirs = (path_of(scene, f"runs/{run}/{name}") for run in (one, two))
        kept = mine.read_bytes()
        mine.write_bytes(theirs.read_bytes())
        # Of another length it ends early; of the same one, its bytes are not those that were authenticated.
        with pytest.raises((FormatError, StoreError)):
            contents(store, scene, one)
        mine.write_bytes(kept)
    manifest = path_of(scene, manifest_name(one))
    manifest.write_bytes(path_of(scene, manifest_name(two)).read_bytes())
    with pytest.raises(FormatError, match="is of run"):
        load_manifest(store, one, scene.keys)


@pytest.mark.parametrize("part", ["manifest.json", "pack-00001.tpb", "schema.tpb"])
def test_a_missing_or_truncated_part_is_no_verified_backup(backup: tuple[Scene, Store, str], part: str) -> None:
    scene, store, run = backup
    path = path_of(scene, f"runs/{run}/{part}")
    good = path.read_bytes()
    for length in (0, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        assert examine_all(store, scene.keys, "prod").newest is None
        with pytest.raises(TenantproofError):
            contents(store, scene, run)
    path.unlink()
    assert examine_all(store, scene.keys, "prod").newest is None


def test_a_manifest_of_a_stranger_is_refused(backup: tuple[Scene, Store, str]) -> None:
    scene, store, run = backup
    stranger = Scene(scene.dsn, scene.store, scene.key_store)
    with pytest.raises(FormatError, match="not trusted"):
        load_manifest(store, run, stranger.keys)
    assert examine_all(store, stranger.keys, "prod").newest is None


@dataclass(repr=False)
class Made:
    """A manifest, without its long repr."""

    manifest: Manifest


@pytest.fixture(scope="module")
def manifest(seeded: str, tmp_path_factory: pytest.TempPathFactory) -> "Made":
    folder = tmp_path_factory.mktemp("manifest")
    scene = Scene(seeded, local(folder), local(folder))
    made = scene.run().manifest
    return Made(made)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), values)
def test_a_changed_manifest_is_refused_or_means_the_same(manifest: Made, seed: int, value: Any) -> None:
    """Also with a good signature, a manifest that contradicts itself or the format never comes through."""
    made = manifest.manifest
    changed, draw = json.loads(manifest_to_json(made)), random.Random(seed)
    here: Any = changed
    while True:
        key = draw.choice(sorted(here) if isinstance(here, dict) else range(len(here)))
        if not isinstance(here[key], dict | list) or not here[key] or draw.random() < 0.2:
            here[key] = value
            break
        here = here[key]
    try:
        found = manifest_from_json(json.dumps(changed).encode(), run=made.run)
    except FormatError:
        return
    assert json.loads(manifest_to_json(found)) == changed


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | values.map(lambda v: json.dumps(v).encode()))
def test_arbitrary_manifests_and_keys_are_refused(scene: Scene, body: bytes) -> None:
    with pytest.raises(FormatError):
        manifest_from_json(body, run="20261124T020000Z-0a1b2c3d")
    store = open_store(scene.store)
    name = "keys/20261124T020000Z-0a1b2c3d/00.json"
    store.put(name, body, replace=True)
    with pytest.raises(FormatError):
        read_keys(store, name, "20261124T020000Z-0a1b2c3d")


# --- the stand-alone script -------------------------------------------------------------------------------


def test_the_script_is_short_and_stored_beside_the_backups(backup: tuple[Scene, Store, str]) -> None:
    _, store, _ = backup
    script = (REPOSITORY / "docs" / "open_backup.py").read_bytes()
    assert b"".join(store.read(OPEN_SCRIPT)) == script
    assert len(script.splitlines()) < 80
    assert b"pytest_tenantproof" not in script


def test_the_script_and_psql_restore_a_tenant_without_this_package(
    scene: Scene, new_database: Callable[[], str], tmp_path: Path
) -> None:
    """Run with -I and only the libraries: the package is not importable there."""
    scene.dsn = new_database()
    seed(scene.dsn, tenants=3, messages=4)
    run, store = scene.run().run, open_store(scene.store)
    (tmp_path / "private.key").write_text(scene.reader.private_text)
    root = path_of(scene, "")
    tenant, *_ = load_manifest(store, run, scene.keys).tenants
    target, psql = new_database(), str(find_bin(18).path / "psql")
    for what in (["--schema"], [], [tenant]):
        command = [sys.executable, "-I", str(root / OPEN_SCRIPT), str(root), run, str(tmp_path / "private.key"), *what]
        done = subprocess.run(command, capture_output=True, check=True)
        load = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", "-", target]
        sql = b"SET session_replication_role = replica;\n" + done.stdout
        subprocess.run(load, input=sql, check=True, capture_output=True)
    query = "SELECT md5(string_agg(m::text, '' ORDER BY id)) FROM messages m WHERE tenant_id = %s"
    with psycopg.connect(scene.dsn) as before, psycopg.connect(target) as after:
        assert before.execute(query, [tenant]).fetchone() == after.execute(query, [tenant]).fetchone()
        assert after.execute("SELECT count(DISTINCT tenant_id) FROM messages").fetchone() == (1,)
        assert after.execute("SELECT count(*) FROM plans").fetchone() == (2,)
    wrong = tmp_path / "wrong.key"
    wrong.write_text(Scene("", scene.store, scene.store).reader.private_text)
    command = [sys.executable, "-I", str(root / OPEN_SCRIPT), str(root), run, str(wrong)]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_runs_that_are_not_ours_are_not_listed(scene: Scene) -> None:
    store = open_store(scene.store)
    for name in ("runs/x/manifest.json", "runs/20261340T000000Z-00000000/manifest.json", "runs/manifest.json"):
        store.put(name, b"{}")
    assert find_runs(store) == ()
