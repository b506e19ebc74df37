"""`tenantproof recover` as people and jobs call it: what it prints, its exit status, and what it left behind."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pytest_tenantproof.cli import main
from tests.migrate.conftest import Product
from tests.recover.test_recover import ASIDE, CORRUPTION, REPAIRS
from tests.support import REPOSITORY

CONFIG = (REPOSITORY / "tenantproof.toml").read_text() + '\n[tenantproof.targets.staging]\nclass = "staging"\n'
WHOLE = REPAIRS + ASIDE


@dataclass
class Desk:
    product: Product
    folder: Path
    capture: pytest.CaptureFixture[str]
    environment: pytest.MonkeyPatch

    def recover(self, *arguments: str) -> tuple[int, str]:
        status = main(["recover", "--target", "staging", "--config", str(self.folder / "tenantproof.toml"), *arguments])
        said = self.capture.readouterr()
        return status, said.out + said.err

    def json(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        status, said = self.recover("--json", *arguments)
        return status, json.loads(said)


@pytest.fixture
def desk(product: Product, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    (tmp_path / "tenantproof.toml").write_text(CONFIG)
    monkeypatch.setenv("TENANTPROOF_STAGING_WRITER_DSN", product.dsn)
    return Desk(product, tmp_path, capsys, monkeypatch)


def test_plan_apply_undo(desk: Desk) -> None:
    assert desk.recover() == (0, "every row is in its place\n")
    desk.product.run(CORRUPTION)
    corrupt = desk.product.state()
    status, said = desk.recover()
    assert (status, "nothing was changed; --apply does this" in said) == (0, True)
    assert re.search(r"^repair +2 rows of public\.messages: re-derived from its parent$", said, re.MULTILINE), said
    assert desk.product.state() == corrupt
    status, said = desk.recover("--apply", "--batch", "3")
    assert (status, f"before: {WHOLE} rows, after: 0" in said) == (0, True)
    run = re.findall(r"--undo (\S+)", said)[0]
    assert desk.recover("--apply") == (0, "every row is in its place\n")
    assert desk.recover("--undo", run) == (0, f"run {run}: {WHOLE} rows are as they were\n")
    assert desk.product.state()[1:] == corrupt[1:]
    status, said = desk.recover("--undo", run)
    assert (status, "undone already" in said) == (1, True)


def test_the_same_for_machines(desk: Desk) -> None:
    desk.product.run(CORRUPTION)
    status, planned = desk.json()
    assert (status, planned["applied"], sum(step["rows"] for step in planned["before"])) == (0, False, WHOLE)
    status, applied = desk.json("--apply")
    assert (status, applied["applied"], applied["left"], applied["before"]) == (0, True, 0, planned["before"])
    assert desk.json("--undo", applied["run"]) == (0, {"rows": WHOLE, "undone": applied["run"]})


def test_rows_left_for_people_are_status_1(desk: Desk) -> None:
    desk.product.run(
        "INSERT INTO public.developments (id, tenant_id, name) VALUES (md5('e')::uuid, NULL, 'E');"
        "CREATE TABLE public.plans (development uuid REFERENCES public.developments);"
        "INSERT INTO public.plans VALUES (md5('e')::uuid)"
    )
    status, said = desk.recover("--apply")
    assert (status, "before: 1 rows, after: 1" in said) == (1, True)


REFUSED = {
    "an unknown target": (["--target", "nowhere"], 4, "nowhere"),
    "a batch of nothing": (["--apply", "--batch", "0"], 4, "--batch is less than one"),
    "both at once": (["--apply", "--undo", "x"], 4, "given at once"),
    "an unknown run": (["--undo", "'; DROP TABLE units; --"], 1, "recover was never applied here"),
    "an unknown option": (["--force"], 4, "unrecognized arguments"),
    "no config": (["--config", "/nowhere/tenantproof.toml"], 4, "/nowhere/tenantproof.toml"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, desk: Desk) -> None:
    arguments, expected, words = REFUSED[case]
    before = desk.product.state()
    status, said = desk.recover(*arguments)
    assert (status, words in said) == (expected, True), said
    assert desk.product.state() == before


def test_without_a_writer_nothing_is_opened(desk: Desk) -> None:
    """The DSN of evidence runs is not used for writing, though it is there."""
    desk.environment.delenv("TENANTPROOF_STAGING_WRITER_DSN")
    desk.environment.setenv("TENANTPROOF_STAGING_DSN", desk.product.dsn)
    status, said = desk.recover("--apply")
    assert (status, "TENANTPROOF_STAGING_WRITER_DSN" in said) == (4, True)


def test_a_writer_without_rights_changes_nothing_and_shows_no_row(desk: Desk) -> None:
    desk.product.run(CORRUPTION)
    desk.product.run("DO $$ BEGIN CREATE ROLE weak LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    before = desk.product.state()
    desk.environment.setenv("TENANTPROOF_STAGING_WRITER_DSN", make_conninfo(desk.product.dsn, user="weak"))
    status, said = desk.recover("--apply")
    assert (status, "(42501)" in said) == (1, True), said
    assert desk.product.state() == before
    desk.environment.setenv("TENANTPROOF_STAGING_WRITER_DSN", "host=/nowhere password=hunter2")
    status, said = desk.recover()
    assert (status, "hunter2" in said) == (2, False)


def test_the_installed_command(desk: Desk) -> None:
    """In a process of its own, as cron calls it; what it did is in the table, with who and when."""
    desk.product.run(CORRUPTION)
    command = [sys.executable, "-m", "pytest_tenantproof.cli", "recover", "--target", "staging", "--apply"]
    done = subprocess.run(command, cwd=desk.folder, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    with psycopg.connect(desk.product.dsn) as connection:
        kept = connection.execute("SELECT count(*), count(DISTINCT run) FROM tenantproof.recovered").fetchone()
    assert kept == (WHOLE, 1)
