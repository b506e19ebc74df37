"""README's first command as a newcomer runs it: what it says, what it leaves, and that no byte of that can change."""

import os
import random
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.attest import bundle
from pytest_tenantproof.attest.verify import verify_bundle
from pytest_tenantproof.errors import VerificationError
from tests.plugin.conftest import CONFIG
from tests.support import REPOSITORY

pytestmark = pytest.mark.xdist_group("first-command")  # one run for all of them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("newcomer")
    (made / "tenantproof.toml").write_text(CONFIG)
    return made


@pytest.fixture(scope="module")
def evidence(folder: Path) -> subprocess.CompletedProcess[str]:
    """`make evidence` of this repository's Makefile, in a folder of its own, with the installation that tests use."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TENANTPROOF_", "CI", "MAKE"))}
    command = ["make", "-f", str(REPOSITORY / "Makefile"), "evidence", f"BIN={Path(sys.executable).parent}", "STAMP="]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_tests_of_one_run_are_on_one_worker(request: pytest.FixtureRequest) -> None:
    """pytest-xdist groups by node ids. With a pytest whose ids it does not know it does nothing, and says nothing."""
    if request.config.getoption("loadgroup", default=False):
        assert request.node.nodeid.endswith("@first-command")


def test_it_ends_with_the_report_the_verdict_and_how_to_verify(
    evidence: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert evidence.returncode == 0, evidence.stdout[-3000:] + evidence.stderr
    report, verdict, verify, last = evidence.stdout.splitlines()[-4:]
    assert re.fullmatch(r"=+ .*passed.* in .+ =+", last)
    [path] = re.findall(r"^report:  (evidence/embedded/\S+/report\.html)$", report)
    assert (folder / path).is_file()
    assert verdict.startswith("verdict: PROVEN")
    [command] = re.findall(r"^verify:  tenantproof (.+)$", verify)
    line = [sys.executable, "-m", "pytest_tenantproof.cli", *shlex.split(command)]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "embedded proven" in done.stdout


def test_it_says_what_it_does_while_it_does_it(evidence: subprocess.CompletedProcess[str]) -> None:
    said = evidence.stdout
    steps = ("collecting evidence", "starting an embedded Postgres", "loading demo data", "target embedded", "TP101")
    assert sorted(steps, key=said.index) == list(steps)


def test_any_changed_byte_of_a_real_bundle_is_noticed(evidence: subprocess.CompletedProcess[str], folder: Path) -> None:
    """Every file of it: 130 bytes of each at random, its first and its last; any bit or the whole byte."""
    assert evidence.returncode == 0
    [path] = bundle.bundles(folder / "evidence" / "embedded")
    generator, tried = random.Random(20261125), Counter[str]()
    for file in sorted(path.iterdir()):
        data = file.read_bytes()
        for at in (0, len(data) - 1, *(generator.randrange(len(data)) for _ in range(130))):
            changed = (
                data[at] ^ (1 << generator.randrange(8)) if at % 2 else (data[at] + generator.randrange(1, 256)) % 256
            )
            file.write_bytes(data[:at] + bytes([changed]) + data[at + 1 :])
            with pytest.raises(VerificationError):
                verify_bundle(path, [], allow_ephemeral=True)
            tried[file.name] += 1
        file.write_bytes(data)
    assert set(tried) == {
        "frameworks.html", "junit.xml", "oscal-ar.json", "report.html", "report.json", "results.csv", "results.sarif",
        "signing-key.pub", "statement.intoto.jsonl",
    }  # fmt: skip
    assert tried.total() >= 1000
    assert verify_bundle(path, [], allow_ephemeral=True).verdict == "proven"


def test_the_demo_data_are_as_many_as_promised(reference_database: str) -> None:
    """README: at least 3 tenants, 12 developments, 240 units, 5,000 messages; and each tenant has its share."""
    with psycopg.connect(reference_database) as connection:
        for table, least in (("tenants", 3), ("developments", 12), ("units", 240), ("messages", 5000)):
            [count] = connection.execute(f"SELECT count(*) FROM public.{table}".encode()).fetchone() or (0,)
            assert count >= least, table
        shares = connection.execute(
            "SELECT count(DISTINCT d.id), count(DISTINCT u.id), count(m.id), count(DISTINCT m.body)"
            " FROM tenants t LEFT JOIN developments d ON d.tenant_id = t.id"
            " LEFT JOIN units u ON u.development_id = d.id LEFT JOIN messages m ON m.unit_id = u.id GROUP BY t.id"
        ).fetchall()
    assert all(developments >= 2 and units >= 40 and messages >= 500 for developments, units, messages, _ in shares)
    assert all(bodies >= 5 for *_, bodies in shares), "messages that are all alike are not realistic"
