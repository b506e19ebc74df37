"""The product before hardening is red for each of its known gaps; `tenantproof migrate` makes it green."""

import json
from pathlib import Path

import psycopg

from pytest_tenantproof.attest import bundle
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import find_bin, start
from tests.migrate.conftest import ROWS
from tests.plugin.conftest import Run, Tool
from tests.support import REPOSITORY

SCOPE = "invariant or rls or evidence"
GAPS = [
    tuple(line.split("\t"))
    for line in (REPOSITORY / "tests" / "baseline_gaps.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def test_the_list_is_long_and_has_no_double() -> None:
    assert len(GAPS) >= 25
    assert len(set(GAPS)) == len(GAPS)
    assert all(len(gap) == 3 for gap in GAPS)


def test_red_before_migrate_and_green_after(run: Run, tool: Tool, tmp_path: Path) -> None:
    only_baseline = tmp_path / "baseline"
    only_baseline.mkdir()
    file = migrations_folder() / "000_baseline.sql"
    (only_baseline / file.name).write_bytes(file.read_bytes())
    with start(find_bin(18)) as server:
        apply(server.dsn(), only_baseline)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(ROWS.encode())
        here = {"TENANTPROOF_STAGING_DSN": server.dsn(), "TENANTPROOF_STAGING_WRITER_DSN": server.dsn()}
        before = run("--evidence=staging", "-m", SCOPE, **here)
        assert before.returncode == 1, before.stdout[-3000:]
        _each_gap_has_a_finding(tmp_path)
        migrated = tool("migrate", "--target", "staging", **here)
        assert migrated.returncode == 0, migrated.stderr
        assert "applied 001_multi_tenant_hardening" in migrated.stdout
        after = run("--evidence=staging", "-m", SCOPE, **here)
        assert after.returncode == 0, after.stdout[-3000:]
        assert f"verdict: PROVEN (scope: {SCOPE}, " in after.stdout


def _each_gap_has_a_finding(folder: Path) -> None:
    path = bundle.bundles(folder / "evidence" / "staging")[-1]
    report = json.loads((path / "report.json").read_bytes())
    assert report["verdict"] == "failed"
    found = [(c["id"], f["object"], f["detail"]) for c in report["controls"] for f in c["findings"]]
    for control, name, words in GAPS:
        hits = [detail for id_, object_, detail in found if (id_, object_) == (control, name) and words in detail]
        assert len(hits) == 1, (control, name, words, hits)


def test_migrate_twice_does_nothing(tool: Tool) -> None:
    with start(find_bin(18)) as server:
        here = {"TENANTPROOF_STAGING_WRITER_DSN": server.dsn()}
        assert tool("migrate", "--target", "staging", **here).returncode == 0
        assert "nothing is pending" in tool("migrate", "--target", "staging", **here).stdout
