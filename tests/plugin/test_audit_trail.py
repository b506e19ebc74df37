"""Seals and the log in whole runs: what a superuser does between two runs is in the second one's report."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_tenantproof.controls import test_audit_trail
from pytest_tenantproof.target import EmbeddedPostgres
from tests.plugin.conftest import CONFIG, Run, Tool
from tests.support import create_database

LIVE = str(Path(test_audit_trail.__file__))


@pytest.fixture
def log(product: EmbeddedPostgres, user_environment: dict[str, str]) -> str:
    """A copy of the product, whose audit log may be ruined."""
    dsn = create_database(product, "postgres")
    for name in ("PROD_DSN", "PROD_WRITER_DSN", "PROD_PROBE_DSN"):
        user_environment[f"TENANTPROOF_{name}"] = dsn
    return dsn


def _change(dsn: str, sql: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for (name,) in connection.execute("SELECT relid::regclass::text FROM pg_partition_tree('public.audit_events')"):
            connection.execute(f"ALTER TABLE {name} DISABLE TRIGGER append_only".encode())
        connection.execute(sql.encode())


def _judged(run: Run, folder: Path) -> dict[str, Any]:
    done = run("--evidence=prod", LIVE)
    written = max((folder / "evidence" / "prod").glob("*/report.json"))
    found = json.loads(written.read_text())
    assert found["verdict"] != "proven", done.stdout  # some controls alone prove nothing
    return {**{control["id"]: control for control in found["controls"]}, "digests": found["digests"]}


def test_seals_in_whole_runs(run: Run, tool: Tool, log: str, tmp_path: Path) -> None:
    first = _judged(run, tmp_path)
    assert (first["TP515"]["outcome"], "tenantproof seal" in first["TP515"]["reason"]) == ("not_run", True)
    assert {first[i]["outcome"] for i in ("TP512", "TP513", "TP514")} == {"not_applicable"}
    assert first["TP516"]["outcome"] == "passed"
    for _ in range(2):
        assert tool("seal", "--target", "prod").returncode == 0
        _change(log, "UPDATE public.messages SET body = body || '.'")
    key = next((tmp_path / "keys").glob("*.pub"))
    (tmp_path / "tenantproof.toml").write_text(f'{CONFIG}\n[tenantproof.backup]\ntrusted_keys = ["{key}"]\n')
    second = _judged(run, tmp_path)
    assert second["TP515"]["outcome"] == "passed", second["TP515"]
    _change(log, "UPDATE public.audit_events SET actor = 'user:7' WHERE id = 5")
    third = _judged(run, tmp_path)["TP515"]
    assert (third["outcome"], "event 5 of" in third["findings"][0]["detail"]) == ("failed", True)
    (tmp_path / "evidence" / "prod" / "seals" / "00000002.seal.jsonl").unlink()
    fourth = _judged(run, tmp_path)["TP515"]
    assert any("the end of the chain was cut" in finding["detail"] for finding in fourth["findings"]), fourth
    assert second["digests"]["seal"][:16] in str(fourth["findings"])
