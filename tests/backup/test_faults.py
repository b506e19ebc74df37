"""Whatever interrupts a backup, nothing that looks like one is left, and the next run completes."""

import contextlib
import itertools
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.backup import BackupFailed, Store, StoreSpec, find_runs, open_store
from pytest_tenantproof.backup.examine import examine_all
from pytest_tenantproof.backup.store import LocalStore
from pytest_tenantproof.backup.store import upload as upload_module
from pytest_tenantproof.target import find_bin, start
from tests.backup.servers import Proxy, client, moto, proxy
from tests.backup.support import Scene, contents, local, seed

KINDS = (
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "PutObject",
    "HeadObject",
    "GetObject",
    "ListObjectVersions",
)
FAULTS: tuple[int | str, ...] = (500, 503, "drop", "lost")
_count = itertools.count(1)


def no_session_left(dsn: str) -> None:
    """Waits until the server has noticed that a killed backup is gone."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tenantproof-backup-%'"
    with psycopg.connect(dsn, autocommit=True) as connection:
        deadline = time.monotonic() + 30
        while connection.execute(query).fetchone() != (0,):
            assert time.monotonic() < deadline, "a session of a dead backup lives on"
            time.sleep(0.01)


def must_be_sound(scene: Scene) -> int:
    """Every backup in the store is whole; how many there are."""
    found = examine_all(open_store(scene.store), scene.keys, "prod")
    assert found.refused == ()
    return len(found.verified)


def must_recover(scene: Scene, **more: object) -> None:
    """The next run completes, is whole to the last row, and leaves nothing of the interrupted ones."""
    no_session_left(scene.dsn)
    result = scene.run(**more)
    store = open_store(scene.store)
    assert contents(store, scene, result.run)
    runs = {run.id for run in find_runs(store)}
    assert {run.id for run in find_runs(store) if not run.complete} == set()
    assert {s.name.split("/")[1] for s in store.list("keys/")} == runs
    assert not partials(store)


def partials(store: Store) -> list[str]:
    """What killed writers left. A claim that was being written has no run yet: it goes when it is two days old."""
    if isinstance(store, LocalStore):
        return [p.name for p in (store.root / ".partial").glob("*") if "claim.json" not in p.name]
    return [str(n) for n in range(store.abort_partial(""))]


def killed(scene: Scene, seconds: float) -> None:
    """A backup in a process of its own, killed with -9 after `seconds`."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            scene.run()
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def kill_at_points(scene: Scene, points: int, recover_every: int) -> None:
    begun = time.monotonic()
    scene.run()
    whole, rng = (time.monotonic() - begun) * 1.2, random.Random(2026)
    for number in range(1, points + 1):
        killed(scene, rng.uniform(0, whole))
        must_be_sound(scene)
        if number % recover_every == 0:
            must_recover(scene)
        no_session_left(scene.dsn)
    must_recover(scene)


def test_killed_at_fifty_random_points(scene: Scene) -> None:
    kill_at_points(scene, 50, 17)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_with_workers(scene: Scene, workers: int) -> None:
    """The leader alone is killed: its workers end by themselves."""
    scene.backup = replace(scene.backup, workers=workers)
    kill_at_points(scene, 30, 7)
    alive = subprocess.run(["pgrep", "-fc", "pytest_tenantproof.backup.worker"], capture_output=True, check=False)
    assert alive.stdout.strip() == b"0"


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def remote(scene: Scene, upstream: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Scene, Proxy]]:
    """A scene whose store is S3 behind a proxy, with small parts so that every kind of request is made."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setattr(upload_module, "_PART", 4096)
    bucket = f"faults-{next(_count)}"
    client(upstream).create_bucket(Bucket=bucket)
    with proxy(upstream) as between:
        spec = StoreSpec(f"s3://{bucket}/b", between.url, "us-east-1")
        scene.store = scene.key_store = spec
        yield scene, between


def test_the_store_fails_each_kind_of_request_once(remote: tuple[Scene, Proxy]) -> None:
    scene, between = remote
    for kind, fault in zip(KINDS, itertools.cycle(FAULTS), strict=False):
        between.faults, between.failed = {kind: [fault]}, []
        result = scene.run()
        assert between.failed == [(kind, fault)], f"{kind} was not asked for"
    assert must_be_sound(scene) == len(KINDS)
    assert contents(open_store(scene.store), scene, result.run)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_store_fails_any_request_in_any_way(remote: tuple[Scene, Proxy], kind: str, fault: int | str) -> None:
    scene, between = remote
    for times in (1, 2):
        between.faults = {kind: [fault] * times}
        result = scene.run()
        assert contents(open_store(scene.store), scene, result.run)
    assert must_be_sound(scene) == 2


@pytest.mark.parametrize("kind", ["UploadPart", "CompleteMultipartUpload", "GetObject"])
def test_a_store_that_keeps_failing_is_reported_and_leaves_no_backup(
    remote: tuple[Scene, Proxy], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, between = remote
    monkeypatch.setattr("pytest_tenantproof.backup.store.s3._ATTEMPTS", 2)
    between.always = {kind: 503}
    with pytest.raises(BackupFailed) as caught:
        scene.run()
    assert caught.value.stage == "upload"
    assert caught.value.remedy
    between.always = {}
    assert must_be_sound(scene) == 0
    must_recover(scene)


def test_the_network_goes_for_good_in_the_middle(remote: tuple[Scene, Proxy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be cleaned up then; the next run does it, partial uploads too."""
    scene, between = remote
    monkeypatch.setattr("pytest_tenantproof.backup.store.s3._ATTEMPTS", 1)
    kinds = {*KINDS, "AbortMultipartUpload", "DeleteObject", "ListMultipartUploads", "ListObjectsV2"}

    class Cut(dict[str, "int | str"]):
        def get(self, kind: object, default: object = None) -> "int | str | None":  # type: ignore[override]
            return "drop" if between.seen.count("UploadPart") >= 2 and kind in kinds else None

    between.always = Cut()
    with pytest.raises(BackupFailed, match="upload"):
        scene.run()
    between.always = {}
    store = open_store(scene.store)
    left = [run for run in find_runs(store) if not run.complete]
    assert len(left) == 1
    assert must_be_sound(scene) == 0
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    result = scene.run()
    assert result.cleaned.runs == (left[0].id,)
    assert result.cleaned.uploads >= 1
    assert {run.id for run in find_runs(store)} == {result.run}


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_the_database_is_restarted_in_the_middle(tmp_path: Path, mode: str) -> None:
    # A crash may lose what a server that does not sync had promised: this one keeps its word.
    lasting = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    with start(find_bin(18), settings=lasting) as server:
        dsn = server.dsn()
        seed(dsn, tenants=3, messages=3)
        scene = Scene(dsn, local(tmp_path), local(tmp_path))

        def restart(_: int, __: int) -> None:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            with psycopg.connect(dsn, autocommit=True) as admin, contextlib.suppress(psycopg.OperationalError):
                if mode == "immediate":
                    crash = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
                    row = admin.execute(crash).fetchone()
                    assert row is not None
                    os.kill(row[0], signal.SIGKILL)
                else:
                    admin.execute(ended + " AND pid <> pg_backend_pid()")
            time.sleep(0.2)

        with pytest.raises(BackupFailed) as caught:
            scene.run(progress=restart)
        assert caught.value.stage == "backup"
        assert "run again" in caught.value.remedy or "up" in caught.value.remedy
        assert not list(find_runs(open_store(scene.store)))
        for _ in range(100):
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn):
                break
            time.sleep(0.1)
        must_recover(scene)


def test_a_full_disk(scene: Scene) -> None:
    """In a process of its own that may write no more than 3000 bytes to a file."""
    told, say = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            scene.run()
            os.write(say, b"completed")
        except BackupFailed as error:
            os.write(say, f"{error.stage}: {error.remedy}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(say)
    said = os.read(told, 1000).decode()
    assert said == "upload: check the folder, its permissions and the free space."
    store = open_store(scene.store)
    assert not list(find_runs(store))
    assert not partials(store)
    must_recover(scene)


def test_two_at_once(scene: Scene) -> None:
    """Started together from two processes, one is made; the other says why it was not."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BackupFailed):
            for _ in range(5):
                scene.run()
        os._exit(0)
    refused = made = 0
    for _ in range(5):
        try:
            scene.run()
            made += 1
        except BackupFailed as error:
            refused += "another backup of this database is running" in error.detail
    os.waitpid(child, 0)
    assert made + refused == 5
    assert must_be_sound(scene) >= max(made, 1)
    must_recover(scene)


def test_a_run_of_another_database_is_left_alone(scene: Scene) -> None:
    """Its unfinished run may be one that is still being made."""
    store = open_store(scene.store)
    other = "20991231T000000Z-00000000"
    store.put(f"runs/{other}/claim.json", b'{"run": "x", "source": {"database": "other", "system_identifier": "1"}}')
    store.put(f"runs/{other}/pack-00001.tpb", b"being written")
    scene.run()
    assert {run.id: run.complete for run in find_runs(store)}[other] is False
