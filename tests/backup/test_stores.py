"""One conformance suite for every kind of store, on real servers."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pytest_tenantproof.backup.store import (
    DeletionDenied,
    LocalStore,
    ObjectLocked,
    Store,
    StoreSpec,
    open_store,
    store_spec,
)
from pytest_tenantproof.backup.store import upload as upload_module
from pytest_tenantproof.config.backup import BackupSettings
from pytest_tenantproof.demo.s3server import BUCKET, S3Server, start_s3
from pytest_tenantproof.errors import ConfigError, StoreError
from tests.backup.servers import client, free_port, moto, proxy, server
from tests.support import lacks

KINDS = ("local", "plain", "versioned", "locked", "b2")
EXTRA = tuple(
    pytest.param(kind, marks=pytest.mark.long) for kind in ("localstack",) if shutil.which("localstack") is not None
)
_count = itertools.count(1)
# B2 answers 501 to the checksum headers that it does not know.
B2_REFUSES = r"x-amz-(sdk-)?checksum|x-amz-trailer"


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def made(upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Store]]:
    """Makes an empty store of a kind. Multipart uploads begin at 64 KiB."""
    monkeypatch.setattr(upload_module, "_PART", 1 << 16)
    with ExitStack() as stack:

        def make(kind: str) -> Store:
            if kind == "local":
                return open_store(StoreSpec((tmp_path / "store").as_uri()))
            bucket, s3 = f"bucket-{next(_count)}", client(upstream)
            s3.create_bucket(Bucket=bucket, **({"ObjectLockEnabledForBucket": True} if kind == "locked" else {}))
            if kind == "versioned":
                s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
            spec = StoreSpec(f"s3://{bucket}/some/prefix", upstream, "us-east-1")
            if kind == "locked":
                spec = StoreSpec(spec.url, upstream, "us-east-1", lock_mode="compliance", lock_days=1)
            if kind == "b2":
                before = stack.enter_context(proxy(upstream))
                before.refuse = B2_REFUSES
                spec = StoreSpec(spec.url, before.url, "eu-central-003", "md5")
            return open_store(spec)

        yield make


@pytest.fixture(params=[*KINDS, *EXTRA])
def store(request: pytest.FixtureRequest, made: Callable[[str], Store]) -> Iterator[Store]:
    found = made(request.param)
    yield found
    found.close()


def whole(store: Store, name: str) -> bytes:
    return b"".join(store.read(name))


def test_small_objects(store: Store) -> None:
    stored = store.put("keys/a.json", b"one")
    assert (stored.name, stored.size) == ("keys/a.json", 3)
    assert whole(store, "keys/a.json") == b"one"
    found = store.head("keys/a.json")
    assert found is not None
    assert found.size == 3
    assert store.head("keys/b.json") is None
    assert store.put("keys/a.json", b"one").size == 3
    with pytest.raises(StoreError, match="exists and differs"):
        store.put("keys/a.json", b"two")
    assert whole(store, "keys/a.json") == b"one"
    store.put("keys/a.json", b"two", replace=True)
    assert whole(store, "keys/a.json") == b"two"
    store.put_many((f"many/{n}", str(n).encode()) for n in range(40))
    assert [whole(store, f"many/{n}") for n in (0, 39)] == [b"0", b"39"]


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_003])
def test_streams_of_any_size(store: Store, size: int) -> None:
    data = os.urandom(size)
    writer = store.writer("runs/x/pack.tpb")
    for at in range(0, size, 50_000):
        writer.write(data[at : at + 50_000])
    assert "runs/x/pack.tpb" not in {s.name for s in store.list()}
    stored = writer.commit()
    assert writer.commit() == stored
    writer.abort()
    assert stored.size == size
    assert whole(store, "runs/x/pack.tpb") == data
    for offset, length in ((0, min(size, 10)), (size // 2, size - size // 2), (size, 0)):
        found = b"".join(store.read("runs/x/pack.tpb", offset=offset, length=length, version=stored.version))
        assert found == data[offset : offset + length]
    with pytest.raises(StoreError):
        b"".join(store.read("runs/x/pack.tpb", offset=0, length=size + 1))


def test_an_aborted_stream_leaves_nothing(store: Store) -> None:
    for size in (10, 300_000):
        writer = store.writer("runs/x/pack.tpb")
        writer.write(os.urandom(size))
        writer.abort()
        writer.abort()
        assert store.head("runs/x/pack.tpb") is None
        assert store.abort_partial("runs/x/") == 0


def test_what_a_killed_writer_left_is_found_and_removed(store: Store) -> None:
    writer = store.writer("runs/x/pack.tpb")
    writer.write(os.urandom(300_000))
    other = store.writer("runs/y/pack.tpb")
    other.write(os.urandom(300_000))
    assert not list(store.list())
    assert store.abort_partial("runs/x/") == 1
    assert store.abort_partial("runs/x/") == 0
    other.write(b"more")
    assert other.commit().size == 300_004
    with pytest.raises(StoreError):
        writer.commit()
    writer.abort()
    assert [s.name for s in store.list()] == ["runs/y/pack.tpb"]


def test_what_is_two_days_old_in_a_folder_goes_whatever_its_name(made: Callable[[str], Store]) -> None:
    store = made("local")
    assert isinstance(store, LocalStore)
    writers = [store.writer(f"runs/{run}/claim.json") for run in "xy"]
    old, _ = sorted((store.root / ".partial").iterdir())
    os.utime(old, (0, 0))
    assert store.abort_partial("runs/z/") == 1
    assert store.abort_partial("runs/y/") == 1
    for writer in writers:
        writer.abort()


def test_listing_is_by_prefix_in_order_and_whole(store: Store) -> None:
    names = sorted(f"runs/{n:04}/{part}" for n in range(20) for part in "ab")
    store.put_many((name, b"x") for name in reversed(names))
    store.put("other", b"x")
    assert [s.name for s in store.list("runs/")] == names
    assert [s.name for s in store.list("runs/0001/")] == ["runs/0001/a", "runs/0001/b"]
    assert [s.name for s in store.list()] == sorted([*names, "other"])
    assert list(store.list("nothing/")) == []


def test_deletion_is_whole_and_may_be_repeated(store: Store) -> None:
    for content in (b"1", b"2", b"3"):
        store.put("a/b", content, replace=True)
    store.put("a/bc", b"other")
    store.delete("a/b")
    assert store.head("a/b") is None
    assert not store.versions("a/b")
    store.delete("a/b")
    assert whole(store, "a/bc") == b"other"


def test_older_versions_can_be_destroyed(store: Store) -> None:
    for content in (b"secret", b"wiped"):
        store.put("keys/k", content, replace=True)
    store.put("keys/kk", b"1", replace=True)
    store.delete_older("keys/k")
    versions = store.versions("keys/k")
    assert [b"".join(store.read(v.name, version=v.version)) for v in versions] == [b"wiped"]
    assert whole(store, "keys/kk") == b"1"


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "a//b", "a/./b", "", "a\\b", "ä", "a b", "x" * 600, "a/"])
def test_names_stay_below_the_root(store: Store, name: str) -> None:
    for call in (
        lambda: store.put(name, b""),
        lambda: b"".join(store.read(name)),
        lambda: store.writer(name),
        lambda: store.head(name),
    ):
        with pytest.raises(StoreError, match="not allowed"):
            call()


def test_a_missing_object_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError):
        b"".join(store.read("nothing"))


def test_the_clock_is_now(store: Store) -> None:
    assert abs(store.clock() - datetime.now(UTC)) < timedelta(minutes=1)


def test_capabilities_are_found_out_by_trying(made: Callable[[str], Store]) -> None:
    found = {kind: made(kind).capabilities() for kind in KINDS}
    assert {kind: c.write_once for kind, c in found.items()} == dict.fromkeys(KINDS, False) | {"locked": True}
    assert found["versioned"].versioned is True
    assert found["plain"].versioned is False
    assert found["plain"].can_delete is True
    assert "withstood" in found["locked"].detail


def test_locked_objects_withstand_deletion_and_overwriting(made: Callable[[str], Store]) -> None:
    store = made("locked")
    for name, size in (("runs/x/small", 10), ("runs/x/large", 200_000)):
        writer = store.writer(name, lock=True)
        writer.write(b"x" * size)
        stored = writer.commit()
        assert stored.locked_until is not None
        assert stored.locked_until > datetime.now(UTC) + timedelta(hours=23)
        with pytest.raises(ObjectLocked):
            store.delete(name)
        store.put(name, b"overlaid", replace=True)
        assert len(b"".join(store.read(name, version=stored.version))) == size
        assert store.versions(name)[0].version == stored.version
    store.put("runs/x/unlocked", b"1")
    store.delete("runs/x/unlocked")


def test_a_bucket_without_object_lock_is_not_believed(made: Callable[[str], Store], upstream: str) -> None:
    plain = made("plain")
    asked = open_store(StoreSpec(plain.url, upstream, "us-east-1", lock_mode="compliance", lock_days=1))
    with pytest.raises(StoreError):
        asked.put("runs/x/a", b"1", lock=True)
    assert asked.capabilities().write_once is not True


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> S3Server:
    return start_s3(tmp_path_factory.mktemp("s3"), os.getpid())


def test_an_identity_without_the_right_to_delete(guarded: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", guarded.writer[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", guarded.writer[1])
    store = open_store(StoreSpec(f"s3://{BUCKET}/x", guarded.endpoint, "us-east-1"))
    store.put("a", b"1")
    store.put("a", b"2", replace=True)
    for call in (store.delete, store.delete_older):
        with pytest.raises(DeletionDenied):
            call("a")
    found = store.capabilities()
    assert (found.can_delete, found.write_once) == (False, None)
    assert "another identity may delete" in found.detail
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    stranger = open_store(StoreSpec(f"s3://{BUCKET}/x", guarded.endpoint, "us-east-1"))
    with pytest.raises(StoreError, match=r"403|SignatureDoesNotMatch|AccessDenied"):
        stranger.put("b", b"1")


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_tenantproof.backup.store.s3._ATTEMPTS", 1)
    store = open_store(StoreSpec("s3://bucket/x", "http://127.0.0.1:1", "us-east-1"))
    with pytest.raises(StoreError, match="EndpointConnectionError"):
        store.put("a", b"1")
    assert store.capabilities().write_once is None


def test_a_server_that_changes_what_it_gets_is_noticed(made: Callable[[str], Store], upstream: str) -> None:
    """moto believes any checksum header; what proves an upload is that the server's own answer is ours."""
    plain = made("plain")
    with proxy(upstream) as between:
        between.damage = "UploadPart"
        for checksums in ("sha256", "md5"):
            store = open_store(StoreSpec(plain.url, between.url, "us-east-1", checksums))
            writer = store.writer(f"runs/x/{checksums}")
            writer.write(os.urandom(200_000))
            with pytest.raises(StoreError):
                writer.commit()
            writer.abort()


S3RVER = os.environ.get("TENANTPROOF_TEST_S3RVER", "")


def test_a_server_that_ignores_object_lock_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not S3RVER:
        lacks("s3rver", "npm i s3rver; TENANTPROOF_TEST_S3RVER=.../bin/s3rver.js")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "S3RVER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3RVER")
    port = free_port()
    command = ["node", S3RVER, "-d", str(tmp_path), "-p", str(port), "-a", "127.0.0.1", "--configure-bucket", "b"]
    with server(command, port) as url:
        store = open_store(StoreSpec("s3://b/x", url, "us-east-1", lock_mode="compliance", lock_days=1))
        assert store.capabilities().write_once is not True
        with pytest.raises(StoreError):
            store.put("runs/x/a", b"1", lock=True)


def test_specs(tmp_path: Path) -> None:
    def spec(store: str, **more: str) -> StoreSpec:
        return store_spec(BackupSettings(store=store, **more), "prod", tmp_path)  # type: ignore[arg-type]

    assert spec("backups").url == (tmp_path / "backups" / "prod").as_uri()
    assert spec("s3://bucket/some/").url == "s3://bucket/some/prod"
    b2 = spec("b2://bucket", region="eu-central-003")
    assert (b2.endpoint, b2.checksums) == ("https://s3.eu-central-003.backblazeb2.com", "md5")
    for wrong in ("", "ftp://x/y", "s3://", "b2://bucket"):
        with pytest.raises(ConfigError):
            spec(wrong)
