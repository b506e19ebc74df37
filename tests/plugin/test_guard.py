"""The 4xx controls in whole runs: what is not configured is not run, and what is found is not shown."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import CONFIG, Run
from tests.support import REPOSITORY

GUARD = CONFIG.index("[tenantproof.guard]"), CONFIG.index("[tenantproof.targets.prod]")
NOTHING = "[tenantproof.guard]\nclient_bundles = []\ncode_paths = []\nscript_paths = []\n"
FILES = ("TP411", "TP412", "TP413", "TP414")


def report(folder: Path) -> dict[str, Any]:
    (written,) = (folder / "evidence" / "staging").glob("*/report.json")
    return {control["id"]: control for control in json.loads(written.read_text())["controls"]}


@pytest.mark.parametrize(
    ("guard", "status", "outcome", "says"),
    [
        ("", 2, "not_run", "is not set"),
        (
            "[tenantproof.guard]\nclient_bundles = []\ncode_paths = []\nscript_paths = []\n",
            0,
            "not_applicable",
            "is empty",
        ),
        ('[tenantproof.guard]\nclient_bundles = "x"\ncode_paths = "x"\nscript_paths = "x"\n', 2, "error", "Remedy"),
    ],
)
def test_what_is_not_there_is_never_a_pass(
    run: Run, tmp_path: Path, guard: str, status: int, outcome: str, says: str
) -> None:
    (tmp_path / "tenantproof.toml").write_text(CONFIG[: GUARD[0]] + guard + CONFIG[GUARD[1] :])
    done = run("--evidence=staging", "-m", "guard")
    assert done.returncode == status, done.stdout
    found = report(tmp_path)
    for control in FILES:
        assert found[control]["outcome"] == outcome
        assert says in found[control]["reason"]
    assert found["TP401"]["outcome"] == found["TP402"]["outcome"] == "passed"


def test_a_leak_is_found_and_not_shown(run: Run, tmp_path: Path) -> None:
    leaky = CONFIG.replace("bundles/clean", "bundles/leaky").replace("client_modules", "gated_files")
    (tmp_path / "tenantproof.toml").write_text(leaky)
    done = run("--evidence=staging", "-m", "guard")
    assert done.returncode == 1, done.stdout
    found = report(tmp_path)
    assert "service-role-jwt" in found["TP414"]["findings"][0]["detail"]
    assert found["TP411"]["findings"][0]["object"].endswith("add_demo_tenant.py:12")
    bundle = next((REPOSITORY / "tests" / "fixtures" / "bundles" / "leaky" / "assets").glob("admin-*.js")).read_text()
    token = bundle[bundle.index("eyJ") :].partition("`")[0]
    assert len(token) > 100
    for part in token.split("."):
        assert part not in done.stdout
        assert not any(part in file.read_text() for file in (tmp_path / "evidence").rglob("*") if file.is_file())
