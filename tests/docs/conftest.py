"""Two servers and a machine from which a product is operated."""

import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.attest import keys
from pytest_tenantproof.backup.crypto import new_keypair
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start
from tests.plugin.conftest import CONFIG
from tests.support import REPOSITORY

MORE = """
restorable = true
[tenantproof.backup]
store = "store"
workers = 0
private_key_file = "backup.key"
trusted_keys = ["tenantproof.pub"]
recipients = ["{reader}"]
escrow = ["{escrow}"]
[tenantproof.drill]
source = "prod"
"""


@dataclass(frozen=True)
class Step:
    """A command of a document, and what its output must hold."""

    command: str
    says: list[str] = field(default_factory=list)


def sections(name: str) -> dict[str, list[Step]]:
    """The commands of docs/NAME by heading, in their order: indented lines; below one, `# ` lines are its output."""
    here: list[Step] = []
    found = {"": here}
    for line in (REPOSITORY / "docs" / name).read_text().splitlines():
        if line.startswith("## "):
            found[line.removeprefix("## ")] = here = []
        if not (indented := re.fullmatch(r"(?: {4}| {8})(\S.*)", line)):
            continue
        text = indented[1]
        if text.startswith("#"):
            here[-1].says.append(text.removeprefix("#").strip())
        elif re.match(r"(tenantproof|pytest|psql|cp) ", text):
            here.append(Step(text))
    return found


@dataclass(frozen=True)
class Operator:
    """The machine: its folder and environment, and the servers of prod and staging."""

    folder: Path
    environment: dict[str, str]
    prod: EmbeddedPostgres
    staging: EmbeddedPostgres

    def __call__(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command line of a document as a shell would."""
        words = [re.sub(r"\$([A-Z_]+)", lambda v: self.environment[v[1]], w) for w in shlex.split(command)]
        programs = {
            "tenantproof": [sys.executable, "-m", "pytest_tenantproof.cli"],
            "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
            "psql": [str(find_bin(18).path / "psql"), "-X"],
            "cp": ["cp"],
        }
        line = [*programs[words[0]], *words[1:]]
        return subprocess.run(
            line, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with operating(tmp_path) as found:
        yield found


@contextmanager
def operating(tmp_path: Path) -> Iterator[Operator]:
    """A machine in that folder, with two servers."""
    reader, escrow = new_keypair(), new_keypair()
    more = MORE.format(reader=reader.recipient.text, escrow=escrow.recipient.text)
    (tmp_path / "tenantproof.toml").write_text(CONFIG.rstrip() + more)
    (tmp_path / "backup.key").write_text(reader.private_text)
    (tmp_path / "backup.key").chmod(0o600)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "app.js").write_text("console.log(1)\n")
    private, public = keys.new_key(tmp_path / "keys")
    (tmp_path / "tenantproof.pub").write_text(public.read_text())
    with start(find_bin(18)) as prod, start(find_bin(18)) as staging:
        apply(prod.dsn(), migrations_folder())
        load_demo(prod.dsn())
        with psycopg.connect(staging.dsn(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE staging")
            admin.execute("REVOKE CREATE, TEMPORARY ON DATABASE staging FROM PUBLIC")
        with psycopg.connect(prod.dsn()) as connection:
            [tenant] = connection.execute("SELECT id::text FROM tenants LIMIT 1").fetchone() or ("",)
        base = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TENANTPROOF_", "CI"))}
        given = {
            keys.KEY_FILE_VARIABLE: str(private),
            "TENANTPROOF_PROD_DSN": prod.dsn(),
            "TENANTPROOF_PROD_WRITER_DSN": prod.dsn(),
            "TENANTPROOF_STAGING_DSN": staging.dsn("staging"),
            "TENANTPROOF_STAGING_WRITER_DSN": staging.dsn("staging"),
            "TENANT": tenant,
            "DEMO_SEED_SECRET": secrets.token_urlsafe(24),
        }
        yield Operator(tmp_path, base | given, prod, staging)
