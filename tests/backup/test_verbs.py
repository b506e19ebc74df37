"""What the verbs do, say, record and alert, by their exit status."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.attest import keys
from pytest_tenantproof.backup import KeyRing, find_runs, load_manifest, parse_private
from pytest_tenantproof.backup.crypto import new_data_key, new_keypair
from pytest_tenantproof.backup.keyring import wrapped_keys
from pytest_tenantproof.backup.manifest import manifest_name
from pytest_tenantproof.backup.store import LocalStore, Store
from pytest_tenantproof.backup.trust import trusted_keys
from pytest_tenantproof.cli import main
from pytest_tenantproof.config import load_settings
from tests.backup.support import seed
from tests.notify.support import HttpSink, http_sink

CONFIG = """
[tenantproof]
[tenantproof.targets.prod]
class = "live"
[tenantproof.backup]
store = "store"
workers = 0
{more}
recipients = ["{reader}"]
escrow = ["{escrow}"]
"""
BACKUP_RUNS = """
CREATE TABLE IF NOT EXISTS backup_runs(run text PRIMARY KEY, target text, started_at timestamptz,
  finished_at timestamptz, outcome text, stage text, manifest_sha256 text, store text, tables int, tenants int,
  rows bigint, bytes bigint, retention_removed int, error text, tool_version text)
"""


@dataclass
class Desk:
    """A folder to work in, as on the machine that backs up, and what a person there can do."""

    folder: Path
    dsn: str
    sink: HttpSink
    capture: pytest.CaptureFixture[str]
    environment: pytest.MonkeyPatch
    reader: Any = field(default_factory=new_keypair)
    escrow: Any = field(default_factory=new_keypair)

    def configure(self, more: str = "") -> None:
        text = CONFIG.format(more=more, reader=self.reader.recipient.text, escrow=self.escrow.recipient.text)
        (self.folder / "tenantproof.toml").write_text(text)

    def __call__(self, *arguments: str) -> tuple[int, Any]:
        status = main([*arguments, "--json"])
        out = self.capture.readouterr()
        return status, json.loads(out.out)

    @property
    def store(self) -> Store:
        return LocalStore(self.folder / "store" / "prod")

    @property
    def trusted(self) -> dict[str, bytes]:
        return trusted_keys(load_settings(self.folder / "tenantproof.toml"))

    def alerts(self) -> list[str]:
        """Headers of what Slack got; "ping" for a dead-man's ping."""
        found = [d["blocks"][0]["text"]["text"] if d else "ping" for _, _, d in self.sink.requests]
        self.sink.requests.clear()
        return found

    def rows(self) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(
                "SELECT run, outcome, stage, rows FROM backup_runs ORDER BY started_at"
            ).fetchall()


@pytest.fixture
def desk(
    tmp_path: Path,
    new_database: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Desk]:
    dsn = new_database()
    seed(dsn, tenants=3, messages=3)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(BACKUP_RUNS.encode())
    private, _ = keys.new_key(tmp_path / "keys")
    for variable in [v for v in os.environ if v.startswith("TENANTPROOF_")]:
        monkeypatch.delenv(variable)
    with http_sink() as sink:
        for name, value in {
            keys.KEY_FILE_VARIABLE: str(private),
            "TENANTPROOF_PROD_DSN": dsn,
            "TENANTPROOF_PROD_WRITER_DSN": dsn,
            "TENANTPROOF_SLACK_WEBHOOK": sink.url,
            "TENANTPROOF_BACKUP_PING_URL": sink.url,
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        made = Desk(tmp_path, dsn, sink, capsys, monkeypatch)
        made.configure()
        yield made


def test_a_backup_is_made_recorded_and_pinged(desk: Desk) -> None:
    status, answer = desk("backup", "--target", "prod")
    assert status == 0
    assert [run.id for run in find_runs(desk.store)] == [answer["run"]]
    assert answer["retention"]["kept"][answer["run"]]
    manifest = load_manifest(desk.store, answer["run"], desk.trusted)
    assert answer["rows"] == manifest.rows() > 50
    assert desk.rows() == [(answer["run"], "completed", None, manifest.rows())]
    assert desk.alerts() == ["ping"]


def test_a_dry_run_keeps_records_and_tells_nothing(desk: Desk) -> None:
    status, answer = desk("backup", "--target", "prod", "--dry-run")
    assert (status, answer["dry_run"]) == (0, True)
    assert answer["rows"] > 50
    assert not list(desk.store.list())
    assert not desk.rows()
    assert not desk.alerts()


def test_the_lines_for_people(desk: Desk) -> None:
    assert main(["backup", "--target", "prod"]) == 0
    said = desk.capture.readouterr()
    assert "tables, 3 tenants" in said.out
    assert "kept 20" in said.out
    assert said.err == ""


def test_each_kind_of_failure_has_its_own_alert_with_run_and_remedy(desk: Desk) -> None:
    """Database, store, keys and retention: told apart by kind, each with run id and what to do."""
    desk.environment.setenv("TENANTPROOF_PROD_BACKUP_DSN", desk.dsn + " dbname=nowhere")
    assert desk("backup", "--target", "prod")[0] in (1, 2)
    desk.environment.delenv("TENANTPROOF_PROD_BACKUP_DSN")
    (desk.folder / "store").write_text("a file where a folder should be")
    assert desk("backup", "--target", "prod")[0] == 1
    (desk.folder / "store").unlink()
    desk.configure('private_key_file = ""')
    text = (desk.folder / "tenantproof.toml").read_text()
    weak = "tpbpub1:" + "A" * 43 + "="
    (desk.folder / "tenantproof.toml").write_text(text.replace(desk.reader.recipient.text, weak))
    assert desk("backup", "--target", "prod")[0] == 1
    desk.configure("daily = -1")
    status, answer = desk("backup", "--target", "prod")
    assert (status, answer["error"]) == (1, "RetentionError")
    told = [(d["blocks"][0]["text"]["text"], json.dumps(d)) for _, _, d in desk.sink.requests]
    assert [head for head, _ in told] == [
        f"🔴 prod: {kind} failed" for kind in ("backup", "upload", "encryption", "retention")
    ]
    for _, text in told:
        assert "What to do" in text
        assert "*run*" in text
    outcomes = [(outcome, stage) for _, outcome, stage, _ in desk.rows()]
    assert outcomes == [("failed", "backup"), ("failed", "upload"), ("failed", "encryption"), ("completed", None)]


def test_an_alert_that_fails_is_loud(desk: Desk) -> None:
    desk.sink.status = 500
    status, answer = desk("backup", "--target", "prod")
    assert status == 1
    assert "ping refused the alert with status 500" in answer["problems"][0]
    assert find_runs(desk.store)[0].complete
    assert "secret" not in json.dumps(answer)


def test_a_cause_is_told_once_and_its_end_too(desk: Desk) -> None:
    (desk.folder / "store").write_text("a file where a folder should be")
    for expected in (["🔴 prod: upload failed"], []):
        assert desk("backup", "--target", "prod")[0] != 0
        assert desk.alerts() == expected
    (desk.folder / "store").unlink()
    assert desk("backup", "--target", "prod")[0] == 0
    assert desk.alerts() == ["🟢 prod: recovered", "ping"]


def test_bad_calls_say_the_remedy(desk: Desk) -> None:
    desk.environment.delenv(keys.KEY_FILE_VARIABLE)
    status, answer = desk("backup", "--target", "prod")
    assert (status, answer["error"]) == (4, "SigningKeyError")
    assert "keys new" in answer["remedy"]
    assert desk("backup", "--target", "nowhere")[0] == 4
    assert desk.alerts() == ["🔴 prod: backup failed"]


def test_termination_is_told(desk: Desk) -> None:
    """systemd and Kubernetes end a job with SIGTERM."""
    with psycopg.connect(desk.dsn) as holder, psycopg.connect(desk.dsn, autocommit=True) as observer:
        holder.execute("LOCK TABLE plans IN ACCESS EXCLUSIVE MODE")
        command = [sys.executable, "-m", "pytest_tenantproof.cli", "backup", "--target", "prod"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            deadline = time.monotonic() + 20
            while observer.execute(waits).fetchone() == (0,) and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
    assert process.returncode == 143
    assert desk.alerts() == ["🔴 prod: backup failed"]
    assert not list(desk.store.list())


def test_retention_says_what_it_would_do(desk: Desk) -> None:
    for _ in range(3):
        assert desk("backup", "--target", "prod", "--no-retention")[0] == 0
        time.sleep(1.1)
    status, planned = desk("retention", "--target", "prod", "--dry-run")
    assert status == 0
    runs = find_runs(desk.store)
    assert len(runs) == 3
    days = {run.id[:8] for run in runs}  # two, when the test runs around midnight
    assert len(planned["removed"]) == 3 - len(days)
    status, done = desk("retention", "--target", "prod")
    assert done["removed"] == planned["removed"]
    left = {run.id for run in find_runs(desk.store)}
    assert {run[:8] for run in left} == days
    assert left <= set(done["kept"])
    assert {s.name.split("/")[1] for s in desk.store.list("keys/")} == left


def test_keys_are_rotated_rewrapped_and_the_old_one_reads_nothing(desk: Desk) -> None:
    _, made = desk("backup", "--target", "prod")
    before = {s.name: b"".join(desk.store.read(s.name)) for s in desk.store.list("runs/")}
    (desk.folder / "old.key").write_text(desk.reader.private_text)
    status, rotated = desk("keys", "rotate", "--dir", "new")
    assert status == 0
    config = desk.folder / "tenantproof.toml"
    assert load_settings(config).backup.recipients == (rotated["recipient"], desk.reader.recipient.text)
    config.write_text(config.read_text().replace(f', "{desk.reader.recipient.text}"', ""))
    status, done = desk("keys", "rewrap", "--target", "prod", "--key", "old.key")
    assert (status, done["runs"]) == (0, [made["run"]])
    manifest = load_manifest(desk.store, made["run"], desk.trusted)
    fresh = parse_private(Path(rotated["private"]).read_text())
    for pair in (fresh, desk.escrow):
        ring = KeyRing(desk.store, manifest, pair)
        assert all(ring.key(archive) for archive in manifest.archives)
    status, again = desk("keys", "rewrap", "--target", "prod", "--key", "old.key")
    assert (status, again["objects"]) == (0, 0)
    ring = KeyRing(desk.store, manifest, desk.reader)
    with pytest.raises(Exception, match="cannot read this"):
        ring.key(manifest.shared)
    assert {s.name: b"".join(desk.store.read(s.name)) for s in desk.store.list("runs/")} == before
    assert Path(rotated["private"]).stat().st_mode & 0o077 == 0


def test_a_substituted_key_is_never_passed_on(desk: Desk) -> None:
    _, made = desk("backup", "--target", "prod")
    _, other = desk("backup", "--target", "prod", "--no-retention")
    (desk.folder / "old.key").write_text(desk.reader.private_text)
    name = f"keys/{made['run']}/@shared.json"
    stolen = json.loads(b"".join(desk.store.read(f"keys/{other['run']}/@shared.json")))
    desk.store.put(name, json.dumps(stolen | {"run": made["run"]}).encode(), replace=True)
    desk("keys", "rotate", "--dir", "new")
    status, answer = desk("keys", "rewrap", "--target", "prod", "--key", "old.key")
    assert (status, answer["error"]) == (1, "FormatError")
    assert "damaged" in answer["message"]
    # Anyone can wrap a key of their own to a public key; the signed manifest knows which one it has to be.
    forged = wrapped_keys(made["run"], {None: new_data_key()}, [desk.reader.recipient])
    desk.store.put(name, forged.to_json(), replace=True)
    status, answer = desk("keys", "rewrap", "--target", "prod", "--key", "old.key")
    assert (status, answer["error"]) == (1, "FormatError")
    assert "another key" in answer["message"]


def test_erasure_is_shown_then_done_and_survives_a_rewrap(desk: Desk) -> None:
    _, made = desk("backup", "--target", "prod")
    manifest = load_manifest(desk.store, made["run"], desk.trusted)
    gone, *_ = manifest.tenants
    status, shown = desk("erase", "--target", "prod", "--tenant", gone)
    assert (status, shown["applied"], shown["runs"]) == (0, False, [made["run"]])
    KeyRing(desk.store, manifest, desk.reader).key(manifest.tenants[gone])
    assert desk("erase", "--target", "prod", "--tenant", gone, "--apply")[1]["applied"]
    (desk.folder / "old.key").write_text(desk.reader.private_text)
    desk("keys", "rotate", "--dir", "new")
    status, _ = desk("keys", "rewrap", "--target", "prod", "--key", "old.key")
    assert status == 0
    assert KeyRing(desk.store, manifest, desk.reader).erased(manifest.tenants[gone])


@pytest.mark.parametrize("text", ["", "[tenantproof.backup]\n", '[tenantproof.backup]\nstore = "x"\n'])
def test_rotation_never_guesses_where_the_recipients_are(desk: Desk, text: str) -> None:
    (desk.folder / "tenantproof.toml").write_text(text)
    status, answer = desk("keys", "rotate", "--dir", "new")
    assert (status, answer["error"]) == (4, "UsageError")
    assert not (desk.folder / "new").exists()
    assert (desk.folder / "tenantproof.toml").read_text() == text


def test_the_newest_backup_missing_stops_retention(desk: Desk) -> None:
    desk("backup", "--target", "prod", "--no-retention")
    [run] = find_runs(desk.store)
    desk.store.put(manifest_name(run.id), b"{}", replace=True)
    status, answer = desk("retention", "--target", "prod")
    assert (status, answer["error"]) == (1, "RetentionError")
    assert "no backup verifies" in answer["message"]
    assert desk.alerts()[-1] == "🔴 prod: retention failed"
