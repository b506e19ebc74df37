"""`tenantproof seal` as people and jobs call it: what it prints, its exit status, and what it refuses."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from pytest_tenantproof.attest import keys
from pytest_tenantproof.cli import main
from tests.audit.conftest import Log
from tests.support import REPOSITORY

CONFIG = (REPOSITORY / "tenantproof.toml").read_text() + '\n[tenantproof.targets.prod]\nclass = "live"\n'
WRITE = "UPDATE public.messages SET body = body || '.'"


@dataclass
class Desk:
    log: Log
    folder: Path
    capture: pytest.CaptureFixture[str]
    environment: pytest.MonkeyPatch

    @property
    def seals(self) -> Path:
        return self.folder / "evidence" / "prod" / "seals"

    def seal(self, *arguments: str) -> tuple[int, str]:
        places = ["--config", str(self.folder / "tenantproof.toml"), "--dir", str(self.folder / "evidence")]
        status = main(["seal", "--target", "prod", *places, *arguments])
        said = self.capture.readouterr()
        return status, said.out + said.err

    def json(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        status, said = self.seal("--json", *arguments)
        return status, json.loads(said)


@pytest.fixture
def desk(log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    private, _ = keys.new_key(tmp_path / "keys")
    (tmp_path / "tenantproof.toml").write_text(CONFIG)
    monkeypatch.setenv(keys.KEY_FILE_VARIABLE, str(private))
    monkeypatch.setenv("TENANTPROOF_PROD_WRITER_DSN", log.dsn)
    return Desk(log, tmp_path, capsys, monkeypatch)


def test_seal_and_verify(desk: Desk) -> None:
    status, said = desk.seal()
    assert (status, said.startswith("seal 1: transactions 0 to ")) == (0, True), said
    assert desk.seal() == (0, "nothing was closed since the last seal\n")
    desk.log.run(WRITE)
    status, made = desk.json()
    assert (status, [seal["number"] for seal in made["seals"]]) == (0, [2])
    status, checked = desk.json("--verify")
    assert (status, checked["seals"], checked["tampered"]) == (0, 2, [])
    assert checked["head"] == made["seals"][0]["sha256"]
    assert desk.seal("--verify", "--head", checked["head"])[0] == 0


def test_what_a_superuser_did_is_named_and_status_1(desk: Desk) -> None:
    desk.seal()
    desk.log.as_superuser("DELETE FROM public.audit_events WHERE id = 7")
    status, said = desk.seal("--verify")
    assert status == 1
    assert "event 7 of transaction" in said
    assert "was removed" in said


def test_a_cut_chain_is_known_by_its_head(desk: Desk) -> None:
    desk.seal()
    desk.log.run(WRITE)
    desk.seal()
    head = desk.json("--verify")[1]["head"]
    (desk.seals / "00000002.seal.jsonl").unlink()
    assert desk.seal("--verify")[0] == 0
    status, said = desk.seal("--verify", "--head", head)
    assert (status, "its end was cut" in said) == (1, True)


def test_months_ahead_are_made(desk: Desk) -> None:
    desk.log.run("DROP TABLE public.audit_events_2027_06")
    desk.seal()
    assert desk.log.run("SELECT to_regclass('public.audit_events_2027_06') IS NOT NULL") == [(True,)]


@pytest.mark.parametrize(
    ("arguments", "unset", "expected", "words"),
    [
        (["--verify"], "", 1, "holds no seal"),
        ([], keys.KEY_FILE_VARIABLE, 4, "no key to seal with"),
        ([], "TENANTPROOF_PROD_WRITER_DSN", 4, "TENANTPROOF_PROD_WRITER_DSN"),
        (["--target", "nowhere"], "", 4, "nowhere"),
        (["--force"], "", 4, "unrecognized arguments"),
    ],
)
def test_refused(desk: Desk, arguments: list[str], unset: str, expected: int, words: str) -> None:
    if unset:
        desk.environment.delenv(unset)
    status, said = desk.seal(*arguments)
    assert (status, words in said) == (expected, True), said
    assert not list(desk.folder.rglob("*.seal.jsonl"))


def test_seals_of_an_unknown_key_do_not_count(desk: Desk) -> None:
    desk.seal()
    other, _ = keys.new_key(desk.folder / "others")
    desk.environment.setenv(keys.KEY_FILE_VARIABLE, str(other))
    for arguments in ([], ["--verify"]):
        status, said = desk.seal(*arguments)
        assert (status, "does not verify" in said) == (1, True), said


def test_a_role_that_sees_a_part_of_the_log_seals_nothing(desk: Desk) -> None:
    """Row security would hide events, and an empty range would be sealed as if nothing had happened."""
    desk.log.run(
        "DO $$ BEGIN CREATE ROLE weak_sealer LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT USAGE ON SCHEMA tenantproof TO weak_sealer",
        "GRANT EXECUTE ON FUNCTION tenantproof.audit_partitions(integer) TO weak_sealer",
        "GRANT SELECT ON public.audit_events TO weak_sealer",
    )
    desk.environment.setenv("TENANTPROOF_PROD_WRITER_DSN", make_conninfo(desk.log.dsn, user="weak_sealer"))
    status, said = desk.seal()
    assert (status, "may not read every audit event" in said) == (1, True), said
    assert not list(desk.folder.rglob("*.seal.jsonl"))


def test_a_database_without_the_log_is_said_to_be(desk: Desk, audited: Any) -> None:
    desk.environment.setenv("TENANTPROOF_PROD_WRITER_DSN", audited.dsn("template1"))
    status, said = desk.seal()
    assert (status, "002_audit_events.sql" in said) == (1, True), said


def test_the_installed_command(desk: Desk) -> None:
    command = [sys.executable, "-m", "pytest_tenantproof.cli", "seal", "--target", "prod", "--json"]
    done = subprocess.run(command, cwd=desk.folder, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert json.loads(done.stdout)["seals"][0]["events"] > 0
    assert (desk.seals / "00000001.leaves").is_file()
