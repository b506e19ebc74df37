"""Runs the plugin as a user does: a process of its own, in a folder of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_tenantproof.attest import keys
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start
from tests.support import REPOSITORY

Run = Callable[..., subprocess.CompletedProcess[str]]
Tool = Run

CONFIG = (
    (REPOSITORY / "tenantproof.toml")
    .read_text()
    .replace("[tenantproof]\n", f'[tenantproof]\nmigrations = "{REPOSITORY / "migrations"}"\n')
    .replace('["examples/', f'["{REPOSITORY}/examples/')
    .replace('["tests/', f'["{REPOSITORY}/tests/')
    + """
[tenantproof.targets.prod]
class = "live"
[tenantproof.targets.staging]
class = "staging"
signing = "optional"
"""
)


@pytest.fixture(scope="session")
def product() -> Iterator[EmbeddedPostgres]:
    """The reference product on a server that asks for a password."""
    with start(find_bin(18), tcp=True) as server:
        apply(server.dsn(), migrations_folder())
        load_demo(server.dsn())
        yield server


@pytest.fixture
def user_environment(tmp_path: Path, product: EmbeddedPostgres) -> dict[str, str]:
    """A user's folder with a config and a signing key, and the environment that goes with it."""
    (tmp_path / "tenantproof.toml").write_text(CONFIG)
    private, _ = keys.new_key(tmp_path / "keys")
    base = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TENANTPROOF_", "CI"))}
    base |= {keys.KEY_FILE_VARIABLE: str(private)}
    return base | {"TENANTPROOF_PROD_DSN": product.dsn(), "TENANTPROOF_STAGING_DSN": product.dsn()}


@pytest.fixture
def run(tmp_path: Path, user_environment: dict[str, str]) -> Run:
    """`pytest <arguments>` in tmp_path, with DSNs and a signing key in the environment."""
    return _caller(tmp_path, user_environment, "pytest", "-p", "no:cacheprovider")


@pytest.fixture
def tool(tmp_path: Path, user_environment: dict[str, str]) -> Tool:
    """`tenantproof <arguments>` there."""
    return _caller(tmp_path, user_environment, "pytest_tenantproof.cli")


def _caller(folder: Path, environment: dict[str, str], *module: str) -> Run:
    def call(*arguments: str, **more: str | None) -> subprocess.CompletedProcess[str]:
        merged = {k: v for k, v in (environment | more).items() if v is not None}
        command = [sys.executable, "-m", *module, *arguments]
        return subprocess.run(command, cwd=folder, env=merged, capture_output=True, text=True, check=False)

    return call
