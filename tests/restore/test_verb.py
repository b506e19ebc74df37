"""The commands of docs/RESTORE.md."""

import json
import shlex
from pathlib import Path

import pytest

from pytest_tenantproof.attest.keys import public_pem
from pytest_tenantproof.cli import main
from tests.restore.support import Stage, content
from tests.support import REPOSITORY


@pytest.fixture
def machine(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine that restores, with its configuration. The store's folder is that of target `store`."""
    root = stage.scene.store.url.removeprefix("file://").rpartition("/")[0]
    (tmp_path / "backup.key").write_text(stage.scene.reader.private_text)
    (tmp_path / "backup.key").chmod(0o600)
    (tmp_path / "tenantproof.pub").write_text(public_pem(stage.scene.key.public))
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "prod").symlink_to(Path(root) / "store")
    (tmp_path / "tenantproof.toml").write_text(
        '[tenantproof.backup]\nstore = "link"\nprivate_key_file = "backup.key"\ntrusted_keys = ["tenantproof.pub"]\n'
        '[tenantproof.targets.prod]\nclass = "live"\n'
        '[tenantproof.targets.staging]\nclass = "staging"\nrestorable = true\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENANTPROOF_STAGING_WRITER_DSN", stage.dsn)
    for name in ("TENANTPROOF_SIGNING_KEY", "TENANTPROOF_SIGNING_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def commands() -> list[list[str]]:
    text = (REPOSITORY / "docs" / "RESTORE.md").read_text()
    lines = [line.strip() for line in text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("tenantproof restore")]


@pytest.mark.usefixtures("machine")
def test_the_documented_commands(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    dry, real = commands()[:2]
    assert main(dry) == 0
    assert "would replace staging" in capsys.readouterr().out
    assert "public.before_it" in content(stage.dsn)
    assert main([*real, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tenants"] == 5
    assert content(stage.dsn) == content(stage.scene.dsn)


def test_a_private_key_that_others_can_read(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machine / "backup.key").chmod(0o640)
    assert main(commands()[0]) == 4
    assert "chmod 600" in capsys.readouterr().err


@pytest.mark.usefixtures("machine")
def test_the_newest_backup_does_not_verify(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody falls back to an older one unasked: an attacker who spoils the newest would choose it."""
    folder = Path(stage.scene.store.url.removeprefix("file://")) / "runs" / "20991231T000000Z-00000000"
    folder.mkdir()
    try:
        (folder / "manifest.json").write_bytes(b"{}")
        assert main(commands()[0]) == 1
        assert "20991231T000000Z-00000000 is refused" in capsys.readouterr().err
    finally:
        (folder / "manifest.json").unlink()
        folder.rmdir()


@pytest.mark.usefixtures("machine")
def test_the_documented_command_for_managed_servers(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    command = next(command for command in commands() if "--replace" in command)
    assert main([*command, "--tenant", "x"]) == 4
    assert main([*commands()[1], "--put-back"]) == 4
    assert "public.before_it" in content(stage.dsn)
    assert main(command) == 0
    assert "equal to its manifest" in capsys.readouterr().out
    assert content(stage.dsn) == content(stage.scene.dsn)
