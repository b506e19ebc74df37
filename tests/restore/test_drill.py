"""The drill finds every way in which a backup can be no good, and each turns a control red with a reason."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.attest.dsse import envelope
from pytest_tenantproof.backup.crypto import new_keypair
from pytest_tenantproof.backup.drill import Drill, DrillRequest, rehearse
from pytest_tenantproof.backup.manifest import PAYLOAD_TYPE
from pytest_tenantproof.backup.store import open_store
from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.drill import DrillSettings
from pytest_tenantproof.control import Findings
from pytest_tenantproof.controls import test_drills as controls
from tests.restore.support import Stage, content, flipped


@dataclass(frozen=True)
class Recorded:
    drill: Drill
    class_: str = "scratch"
    settings: Settings = field(default_factory=Settings)

    def record(self) -> Drill:
        return self.drill


def drilled(stage: Stage, **more: Any) -> Drill:
    """A drill beside the staging database, which is quicker than a server of its own."""
    settings = replace(stage.settings(), drill=DrillSettings(place="target"))
    given: dict[str, Any] = {
        "source": "prod",
        "settings": settings,
        "store": open_store(stage.scene.store),
        "key_store": open_store(stage.scene.key_store),
        "trusted": stage.scene.keys,
        "pair": stage.scene.reader,
        "target": "staging",
        "dsn": stage.dsn,
    }
    before = content(stage.dsn), stage.databases()
    with rehearse(DrillRequest(**given | more)) as done:
        drill = done.drill
        assert bool(done.dsn) == (not drill.failed)
    assert (content(stage.dsn), stage.databases()) == before
    return drill


def reason(control: Callable[[Any, Findings], None], drill: Drill) -> str:
    findings = Findings()
    control(Recorded(drill), findings)
    return "; ".join(f"{f.object}: {f.detail}" for f in findings)


def folder(stage: Stage) -> Path:
    newest = max(path.name for path in (root(stage) / "runs").iterdir())
    return root(stage) / "runs" / newest


def root(stage: Stage) -> Path:
    return Path(stage.scene.store.url.removeprefix("file://"))


@contextmanager
def replaced(path: Path, body: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(body)
    try:
        yield
    finally:
        path.write_bytes(before)


def resigned(stage: Stage, change: Callable[[dict[str, Any]], None]) -> bytes:
    data = json.loads(base64.b64decode(json.loads((folder(stage) / "manifest.json").read_bytes())["payload"]))
    change(data)
    return envelope(json.dumps(data).encode(), stage.scene.key, PAYLOAD_TYPE)


def test_a_good_backup(stage: Stage) -> None:
    drill = drilled(stage)
    assert not drill.failed, drill.error
    assert drill.rows > 300
    assert drill.tenants == 5
    assert drill.rto_seconds is not None
    for control in (
        controls.test_newest_backup_verifies,
        controls.test_newest_backup_decrypts,
        controls.test_newest_backup_restores,
        controls.test_restored_content_is_equal,
        controls.test_rpo,
        controls.test_rto,
    ):
        assert reason(control, drill) == ""


def test_a_flipped_bit(stage: Stage) -> None:
    pack = next(folder(stage).glob("pack-*.tpb"))
    with flipped(pack, pack.stat().st_size // 2):
        assert "does not authenticate" in reason(controls.test_newest_backup_verifies, drilled(stage))


def test_a_truncated_archive(stage: Stage) -> None:
    pack = next(folder(stage).glob("pack-*.tpb"))
    with replaced(pack, pack.read_bytes()[:-20]):
        assert "another size" in reason(controls.test_newest_backup_verifies, drilled(stage))


def test_a_truncated_archive_whose_manifest_was_signed_to_fit(stage: Stage) -> None:
    pack = max(folder(stage).glob("pack-*.tpb"))

    def shorter(data: dict[str, Any]) -> None:
        place = next(n for n, o in enumerate(data["objects"]) if o["name"].endswith(pack.name))
        data["objects"][place]["size"] -= 20
        parts = [s for a in data["archives"] for s in a["segments"] if s[1] == place]
        max(parts, key=lambda part: part[2])[3] -= 20

    manifest = resigned(stage, shorter)
    with replaced(pack, pack.read_bytes()[:-20]), replaced(folder(stage) / "manifest.json", manifest):
        assert "does not authenticate" in reason(controls.test_newest_backup_verifies, drilled(stage))


def test_a_wrong_key(stage: Stage) -> None:
    drill = drilled(stage, pair=new_keypair())
    assert "cannot read this" in reason(controls.test_newest_backup_decrypts, drill)


def test_an_old_manifest_replayed(stage: Stage) -> None:
    """As the newest run's manifest, and as a run of its own."""
    old = (folder(stage) / "manifest.json").read_bytes()
    run = stage.scene.run().run
    try:
        with replaced(root(stage) / "runs" / run / "manifest.json", old):
            assert "is of another run" in reason(controls.test_newest_backup_verifies, drilled(stage))
    finally:
        for path in (root(stage) / "runs" / run).iterdir():
            path.unlink()
        (root(stage) / "runs" / run).rmdir()
    aged = replace(drilled(stage), rpo_seconds=27 * 3600.0)
    assert "27.0 hours old" in reason(controls.test_rpo, aged)


def test_a_missing_tenant(stage: Stage) -> None:
    """Left out of the manifest by its own signer, with what its rows left in the packs."""

    def without(data: dict[str, Any]) -> None:
        gone = next(a for a in data["archives"] if a["tenant"] is not None)
        shared = next(a for a in data["archives"] if a["tenant"] is None)
        data["archives"].remove(gone)
        for part in gone["segments"]:
            mine = next((s for s in shared["segments"] if s[0] == part[0]), None)
            if mine is None:
                shared["segments"].append(part)
            else:
                data["tables"][part[0]]["rows"] -= part[4]

    with replaced(folder(stage) / "manifest.json", resigned(stage, without)):
        found = reason(controls.test_newest_backup_verifies, drilled(stage))
    assert "overlap or leave a gap" in found or "does not authenticate" in found


def test_a_tenant_that_is_lost_between_load_and_comparison(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_tenantproof.backup.restore import run

    def lose(dsn: str, *rest: Any) -> None:
        real(dsn, *rest)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DELETE FROM public.notes WHERE tenant_id = (SELECT id FROM public.tenants LIMIT 1)")

    real = run.finish_schema  # type: ignore[attr-defined]
    monkeypatch.setattr(run, "finish_schema", lose)
    found = reason(controls.test_restored_content_is_equal, drilled(stage))
    assert "public.notes, tenant" in found
    assert "0 rows where the backup has 1" in found


def test_a_table_left_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_tenantproof.backup.restore import run

    def lose(dsn: str, *rest: Any) -> None:
        real(dsn, *rest)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP TABLE public.plans")

    real = run.finish_schema  # type: ignore[attr-defined]
    monkeypatch.setattr(run, "finish_schema", lose)
    assert "public.plans" in reason(controls.test_restored_content_is_equal, drilled(stage))


def test_a_key_object_that_is_gone(stage: Stage) -> None:
    key = next((root(stage) / "keys" / folder(stage).name).iterdir())
    body = key.read_bytes()
    key.unlink()
    try:
        assert drilled(stage).failed
    finally:
        key.write_bytes(body)


def test_a_drill_beside_a_target_that_may_not_be_replaced(stage: Stage) -> None:
    drill = drilled(stage, target="closed")
    assert "not marked restorable" in reason(controls.test_newest_backup_restores, drill)
