"""Every command of README and docs/*.md is executed by a test that looks at its effect, or is a reasoned exception.

Pages whose own tests take their commands from the page are in BY_PAGE. The commands of all other pages are run here, on
one machine with two servers, in an order in which they make sense.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import psycopg
import pytest

from pytest_tenantproof.attest import keys
from pytest_tenantproof.attest.bundle import bundles
from pytest_tenantproof.target import find_bin
from tests.attest.tsa import serve
from tests.docs.conftest import Operator, operating
from tests.docs.test_schedules import cron_jobs
from tests.support import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
PROGRAMS = r"(?:[A-Z_]+=\S+ )?(?:tenantproof|pytest|psql|make|python3?|pip|aws|cp|systemctl|git|openssl|CREATE|INSERT)"

BY_PAGE = {  # each of these tests fails when its page has a command that it does not run
    "ALERTS.md": "tests/docs/test_pages.py",
    "BACKUP-KEYS.md": "tests/backup/test_docs.py",
    "QUICKSTART.md": "tests/docs/test_pages.py",
    "RUNBOOK-DISASTER-RECOVERY.md": "tests/docs/test_runbooks.py",
    "RUNBOOK-MULTI-TENANT.md": "tests/docs/test_runbooks.py",
    "WRITING-CONTROLS.md": "tests/docs/test_pages.py",
}
BY_TEST = {
    "make evidence": "tests/plugin/test_first_command.py",
    "tenantproof site --evidence evidence --key tenantproof.pub --out site": "tests/report/site/test_site.py",
    "cp evidence/log/checkpoint kept": "tests/attest/test_docs.py",
    "tenantproof verify --key tenantproof.pub --chain --since kept evidence": "tests/attest/test_docs.py",
    "tenantproof log cosign --checkpoint kept --key tenantproof.pub --name auditor --out kept.cosigned": (
        "tests/attest/test_docs.py"
    ),
    "tenantproof verify --key tenantproof.pub --chain --since kept.cosigned --cosigner auditor=auditor.pub evidence": (
        "tests/attest/test_docs.py"
    ),
    "tenantproof log prove --bundle evidence/prod/<bundle> --out proof.json": "tests/attest/test_docs.py",
    "tenantproof verify --key tenantproof.pub --proof proof.json <bundle>": "tests/attest/test_docs.py",
}
RECIPES = {  # whole scripts: how many a page has, and the test that runs them
    "README.md": (1, "tests/attest/test_docs.py"),  # the first of VERIFYING.md: tests/test_package.py compares them
    "VERIFYING.md": (3, "tests/attest/test_docs.py"),
    "RUNBOOK-DISASTER-RECOVERY.md": (1, "tests/docs/test_runbooks.py"),
}
EXCEPTIONS = {
    "make test": "it is what runs this test",
    "python3 -m venv .venv && . .venv/bin/activate && pip install pytest-tenantproof": "installs from PyPI",
    "git clone REPOSITORY && cd pytest-tenantproof": "whoever runs this test has done it",
    "aws s3 sync s3://BUCKET/prod copy/ && aws s3 sync s3://KEY_BUCKET/prod copy/": "here the store is a folder",
    "pip install cryptography pynacl zstandard": "installs from PyPI; they are installed",
    "systemctl enable --now tenantproof-canary.timer": "changes the machine; test_schedules.py checks the units",
}


def listed(page: Path) -> tuple[list[str], int]:
    """The commands of a page, without their comments, and how many whole scripts it has."""
    text, found, scripts = page.read_text(), [], 0
    for fence in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.S | re.M):
        lines = [line.strip() for line in fence.splitlines()]
        if all(re.match(rf"{PROGRAMS} ", line) for line in lines) and "\n\n" not in fence:
            found += lines
        else:
            scripts += 1
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)
    found += re.findall(rf"^(?: {{4}}| {{8}})({PROGRAMS} \S.*)$", outside, re.M)
    return [plain(command) for command in found], scripts


def plain(command: str) -> str:
    """Without comment and environment; names of a bundle alike; the programs of cron lines as they are called."""
    command = re.sub(r"^(?:cd .+ && )?(?:exec )?(?:flock -n \S+ )?\.venv/bin/", "", re.sub(r"  +#.*", "", command))
    command = re.sub(r"^TENANTPROOF_\S+=\S+ ", "", command.strip())
    return re.sub(r" +", " ", command.replace("<run>", "<bundle>").replace("pytest -q ", "pytest "))


def everything() -> dict[str, set[str]]:
    return {page.name: set(listed(page)[0]) for page in PAGES}


# Command, and what its output has to hold, in the order in which they are run.
TOUR: list[tuple[str, str]] = [
    ("tenantproof keys new", "public key:"),
    ("CREATE ROLE canary_job LOGIN PASSWORD '...'; GRANT tenantproof_auditor TO canary_job;", "GRANT ROLE"),
    ("CREATE INDEX CONCURRENTLY ON public.messages USING brin (created_at);", "CREATE INDEX"),
    (
        "INSERT INTO tenantproof.watched_states VALUES ('public', 'signups', 'state', 'broken', 'began_at');",
        "INSERT 0 1",
    ),
    ("tenantproof migrate --target staging", "applied 001_multi_tenant_hardening"),
    ("tenantproof environment --target staging --set staging", "staging"),
    ("ALLOW_DEMO_SEED=true tenantproof seed-demo --target staging", "staging"),
    ("tenantproof backup --target prod", "verified"),
    ("tenantproof restore --from latest --source prod --target staging --replace", "equal to its manifest"),
    ("tenantproof restore --from latest --source prod --target staging --tenant ID --dry-run", "messages: 3 missing"),
    ("tenantproof recover --target staging --apply", "before: 1 rows, after: 0"),
    ("pytest --evidence=staging -m drill", "verdict: PROVEN (scope: drill"),
    ("pytest --evidence=staging -m gate", "verdict: PROVEN (scope: gate"),
    ("pytest --evidence=prod -m rls", "verdict: PROVEN (scope: rls"),
    ("tenantproof verify --key tenantproof.pub evidence/prod/<bundle>", "prod proven"),
    (
        "tenantproof verify --key tenantproof.pub --tsa-root tsa-root.pem evidence/prod/<bundle>",
        "seen by the timestamp",
    ),
    ("tenantproof verify --key tenantproof.pub --chain evidence", "none removed, replaced or reordered"),
    ("tenantproof policy policy.json --out policy.dsse.json", "wrote policy.dsse.json: deploys of the product"),
    (
        "tenantproof verify --policy policy.dsse.json --policy-key security.pub --vsa gate.intoto.jsonl evidence",
        "yes: staging",
    ),
    ("tenantproof verify --key security.pub --deploy staging --max-age-hours 1 gate.intoto.jsonl", "yes: staging"),
    ("tenantproof site --evidence evidence --out site", "examined"),
    ("tenantproof scan dist/", "0 finding(s)"),
    ("python copy/open_backup.py copy RUN private.key --schema > schema.sql", ""),
    ("python copy/open_backup.py copy RUN private.key > global.sql", ""),
    ("python copy/open_backup.py copy RUN private.key TENANT > tenant.sql", ""),
    ('psql -v ON_ERROR_STOP=1 --single-transaction -f tenant.sql "$DSN"', "COPY"),
]


def test_every_command_is_run_by_a_test() -> None:
    found = everything()
    assert sum(map(len, found.values())) > 80
    run = {command for name in BY_PAGE for command in found[name]} | {plain(command) for _, command in cron_jobs()}
    run |= {command for command, _ in TOUR} | set(BY_TEST)
    missing = {name: commands - run - EXCEPTIONS.keys() for name, commands in found.items()}
    assert {name: commands for name, commands in missing.items() if commands} == {}
    every = set().union(*found.values())
    assert {command for command, _ in TOUR} <= every, "the tour runs what no page shows"
    assert set(BY_TEST) <= every
    assert EXCEPTIONS.keys() <= every, "an exception for what no page shows any more"


def test_a_new_command_is_noticed_wherever_a_page_shows_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Run\n\n    tenantproof new --thing  # what\n\n1. or\n\n        TENANTPROOF_X_DSN=a pytest --evidence=x\n"
        "\n```sh\nmake more\npsql -f x\n```\n\n   ```sh\n   field() { true; }\n   field\n   ```\n"
        "\n```toml\nmake = 1\n```\n"
    )
    assert listed(page) == (["make more", "psql -f x", "tenantproof new --thing", "pytest --evidence=x"], 1)


def test_every_script_is_run_by_a_test() -> None:
    assert {page.name: listed(page)[1] for page in PAGES if listed(page)[1]} == {k: n for k, (n, _) in RECIPES.items()}


@pytest.mark.parametrize("name", sorted({*BY_PAGE, *RECIPES} - {"README.md"}))
def test_the_test_of_a_page_reads_it(name: str) -> None:
    for file in {BY_PAGE.get(name), RECIPES.get(name, (0, None))[1]} - {None}:
        assert name in (REPOSITORY / str(file)).read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Operator]:
    """As in the runbooks; a target that the gate lets be seeded, a timestamp authority, and programs by their names."""
    with serve(tmp_path / "tsa") as tsa, operating(tmp_path) as found:
        config = found.folder / "tenantproof.toml"
        text = config.read_text().replace("restorable = true", 'restorable = true\ndatabase_host_allow = ["local"]')
        config.write_text(f'{text}[tenantproof.timestamp]\nurl = "{tsa.url}"\nroot = "tsa-root.pem"\n')
        (found.folder / "tsa-root.pem").write_bytes(tsa.root.read_bytes())
        (found.folder / "bin").mkdir()
        python, psql = sys.executable, find_bin(18).path / "psql"
        programs = {"tenantproof": f"{python} -m pytest_tenantproof.cli", "psql": f"{psql} -X", "python": python}
        programs["pytest"] = f"{python} -m pytest -p no:cacheprovider"
        for name, line in programs.items():
            (found.folder / "bin" / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
            (found.folder / "bin" / name).chmod(0o755)
        yield found


def test_the_tour(machine: Operator) -> None:
    """Each command as it stands on its page, in a shell; what comes before and after it is beside it, by its name."""
    for command, said in TOUR:
        _before(machine, command)
        done = _shell(machine, command)
        assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr)
        assert said in done.stdout + done.stderr, (command, done.stdout[-3000:], done.stderr)
        _after(machine, command)


def _shell(machine: Operator, command: str) -> subprocess.CompletedProcess[str]:
    found = bundles(machine.folder / "evidence" / "prod")
    line = re.sub(r"\bID\b|\bTENANT\b", machine.environment["TENANT"], command)
    line = line.replace("<bundle>", found[-1].name if found else "").replace(" RUN ", f" {_run(machine)} ")
    if re.match("CREATE|INSERT", line):
        statements = [part.strip() for part in line.split(";") if part.strip()]
        asked = " ".join(f"-c {json.dumps(statement)}" for statement in statements)
        line = f'psql -v ON_ERROR_STOP=1 "$TENANTPROOF_PROD_WRITER_DSN" {asked}'
    environment = machine.environment | {"PATH": f"{machine.folder / 'bin'}:/usr/bin:/bin", "DSN": _reading(machine)}
    environment |= {"PYTHONPATH": str(REPOSITORY)}
    folder = machine.folder / ("mine" if command == "tenantproof keys new" else ".")
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=180
    )


def _run(machine: Operator) -> str:
    """The id of the backup."""
    return next((path.name for path in sorted((machine.folder / "store" / "prod" / "runs").glob("*"))), "")


def _reading(machine: Operator) -> str:
    return machine.staging.dsn("reading")


def _count(dsn: str, query: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _do(dsn: str, sql: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in sql.split(";"):
            connection.execute(statement.encode())


ORPHANS = "SELECT count(*) FROM messages m WHERE NOT EXISTS (SELECT FROM units u WHERE u.id = m.unit_id)"


def _before(machine: Operator, command: str) -> None:
    staging, tenant = machine.staging.dsn("staging"), machine.environment["TENANT"]
    if "--dry-run" in command:
        _do(staging, f"DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE tenant_id = '{tenant}' LIMIT 3)")
    if command.startswith("tenantproof recover"):
        orphan = "UPDATE messages SET unit_id = gen_random_uuid() WHERE id = (SELECT id FROM messages LIMIT 1)"
        _do(staging, f"SET session_replication_role = replica; {orphan}")
        assert _count(staging, ORPHANS) == 1
    if command.startswith("tenantproof policy"):
        text = (DOCS / "VERIFYING.md").read_text()
        policy = json.loads(re.findall(r"```json\n(.*?)```", text, re.S)[0])
        policy["keys"][0]["pem"] = (machine.folder / "tenantproof.pub").read_text()
        (machine.folder / "policy.json").write_text(json.dumps(policy))
        private, public = keys.new_key(machine.folder / "security")
        (machine.folder / "security.pub").write_text(public.read_text())
        machine.environment[keys.KEY_FILE_VARIABLE] = str(private)
    if "--schema" in command:
        copytree(machine.folder / "store" / "prod", machine.folder / "copy")
        (machine.folder / "private.key").write_bytes((machine.folder / "backup.key").read_bytes())
    if command.startswith("psql -v"):
        _do(machine.staging.dsn(), "CREATE DATABASE reading")
        for file in ("schema.sql", "global.sql"):
            assert _shell(machine, f'psql -q -v ON_ERROR_STOP=1 -f {file} "$DSN"').returncode == 0, file


def _after(machine: Operator, command: str) -> None:
    """What a page says that the command does, beside what it prints."""
    prod, staging, folder = machine.prod.dsn(), machine.staging.dsn("staging"), machine.folder
    mine = f"SELECT count(*) FROM messages WHERE tenant_id = '{machine.environment['TENANT']}'"
    if command == "tenantproof keys new":
        assert [oct(path.stat().st_mode & 0o777) for path in (folder / "mine").glob("**/*.key")] == ["0o600"]
    elif "seed-demo" in command:
        assert _count(staging, "SELECT count(*) FROM messages") >= 5000
    elif "--replace" in command:
        assert _count(staging, mine) == _count(prod, mine) > 0
    elif "--dry-run" in command:
        assert _count(staging, mine) == _count(prod, mine) - 3
    elif "recover" in command:
        assert _count(staging, ORPHANS) == 0
    elif command.startswith("tenantproof site"):
        assert "prod" in (folder / "site" / "index.html").read_text()
    elif command.startswith("tenantproof scan"):
        (folder / "dist" / "app.js").write_text("const dsn = 'postgresql://service:hunter2secret@db.example.com/app'\n")
        assert _shell(machine, command).returncode == 1
    elif command.startswith("psql -v"):
        assert _count(_reading(machine), mine) == _count(prod, mine)
        assert _count(_reading(machine), "SELECT count(DISTINCT tenant_id) FROM messages") == 1
