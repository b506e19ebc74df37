"""Many targets in one session: one bundle each, one roll-up over all, and the worst status of any."""

from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.attest import bundle, keys
from pytest_tenantproof.attest.rollup import verify_rollup
from pytest_tenantproof.errors import VerificationError
from pytest_tenantproof.target import EmbeddedPostgres
from tests.plugin.conftest import CONFIG, Run

TARGET = '[tenantproof.targets.{}]\nclass = "staging"\nsigning = "optional"\n'
NOTED = """
from pathlib import Path
def pytest_configure(config):
    Path("noted-" + config.getoption("--evidence")).touch()
"""


@pytest.fixture
def copies(product: EmbeddedPostgres, tmp_path: Path) -> dict[str, str]:
    """DSNs of two more databases like the product's: `eu` as it is, `us` opened."""
    with psycopg.connect(product.dsn("template1"), autocommit=True) as admin:
        for name in ("eu", "us"):
            admin.execute(f"DROP DATABASE IF EXISTS {name}".encode())
            admin.execute(f"CREATE DATABASE {name} TEMPLATE postgres".encode())
            admin.execute(f"REVOKE CREATE, TEMPORARY ON DATABASE {name} FROM PUBLIC".encode())
    with psycopg.connect(product.dsn("us"), autocommit=True) as connection:
        connection.execute("ALTER TABLE messages DISABLE ROW LEVEL SECURITY")
    (tmp_path / "tenantproof.toml").write_text(CONFIG + TARGET.format("eu") + TARGET.format("us"))
    return {f"TENANTPROOF_{name.upper()}_DSN": product.dsn(name) for name in ("eu", "us")}


def rollups(folder: Path) -> list[Path]:
    return sorted((folder / "evidence" / "fleet").glob("*.jsonl"))


def test_a_fleet_has_a_bundle_each_and_one_roll_up(run: Run, tmp_path: Path, copies: dict[str, str]) -> None:
    (tmp_path / "noted.py").write_text(NOTED)
    done = run("--evidence=staging,eu,us", "-m", "rls", "-n", "auto", "-p", "noted", **copies)
    assert done.returncode == 1, done.stdout[-3000:]
    (path,) = rollups(tmp_path)
    key = keys.read_public(tmp_path / "keys" / "tenantproof.pub")
    predicate, found = verify_rollup(path, [key])
    assert (predicate["passedTests"], predicate["failedTests"]) == (["eu", "staging"], ["us"])
    assert {v.target: v.verdict for v in found} == {"eu": "proven", "staging": "proven", "us": "failed"}
    assert "us: failed" in done.stdout
    assert {path.name for path in tmp_path.glob("noted-*")} >= {"noted-staging", "noted-eu", "noted-us"}
    assert [len(bundle.bundles(tmp_path / "evidence" / target)) for target in ("staging", "eu", "us")] == [1, 1, 1]
    other = found[0].path / "report.html"
    other.write_bytes(other.read_bytes() + b" ")
    with pytest.raises(VerificationError, match="changed after signing"):
        verify_rollup(path, [key])


def test_a_target_without_evidence_is_never_passed_over(run: Run, tmp_path: Path, copies: dict[str, str]) -> None:
    broken = copies | {"TENANTPROOF_EU_DSN": "host=127.0.0.1 port=1 dbname=x"}
    done = run("--evidence=staging,eu", "-m", "rls", **broken)
    assert done.returncode == 2, done.stdout[-3000:]
    predicate, found = verify_rollup(rollups(tmp_path)[0], [keys.read_public(tmp_path / "keys" / "tenantproof.pub")])
    assert predicate["result"] == "FAILED"
    assert [v.target for v in found] == ["staging"]


@pytest.mark.parametrize("option", ["staging,", "staging,staging", "staging,nowhere"])
def test_a_wrong_list_is_a_usage_error(run: Run, option: str) -> None:
    assert run(f"--evidence={option}").returncode == 4
