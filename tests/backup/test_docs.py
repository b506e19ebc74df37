"""The commands of the documents do what they say."""

import re
import shlex
from pathlib import Path

from pytest_tenantproof.backup import find_runs, load_manifest
from pytest_tenantproof.backup.erasure import erased_tenants
from pytest_tenantproof.backup.manifest import Segment
from pytest_tenantproof.cli import VERBS
from tests.backup.test_verbs import Desk, desk
from tests.support import REPOSITORY

__all__ = ["desk"]

KEYS = REPOSITORY / "docs" / "BACKUP-KEYS.md"
FORMAT = REPOSITORY / "docs" / "BACKUP-FORMAT.md"


def commands(path: Path) -> list[str]:
    return re.findall(r"^    (tenantproof .+)$", path.read_text(), re.M)


def test_the_commands_about_keys_work_in_their_order(desk: Desk) -> None:
    asked = commands(KEYS)
    assert len(asked) == 8
    for number, command in enumerate(asked):
        status, answer = desk(*shlex.split(command)[1:])
        assert status == 0, (command, answer)
        if number == 1:
            for pair, name in ((desk.reader, "restore"), (desk.escrow, "escrow")):
                text = (desk.folder / name / f"{name}.backup.pub").read_text().strip()
                config = desk.folder / "tenantproof.toml"
                config.write_text(config.read_text().replace(pair.recipient.text, text))
    [run] = find_runs(desk.store)
    assert len(load_manifest(desk.store, run.id, desk.trusted).recipients) == 3
    assert len(erased_tenants(desk.store, desk.trusted)) == 1


def test_the_format_is_described_on_a_page_and_completely(desk: Desk) -> None:
    text = FORMAT.read_text()
    assert len(text.splitlines()) < 100
    _, made = desk("backup", "--target", "prod")
    for name in {s.name.split("/")[0] for s in desk.store.list()}:
        assert name in text
    manifest = load_manifest(desk.store, made["run"], desk.trusted)
    for field in type(manifest).__dataclass_fields__:
        assert f"`{field}`" in text, field
    assert len(Segment.__dataclass_fields__) == 9


def test_every_verb_that_the_documents_name_exists() -> None:
    for path in (KEYS, FORMAT):
        for verb in re.findall(r"tenantproof ([a-z]+) ", path.read_text()):
            assert verb in VERBS
