"""The commands of the runbooks, run on two servers as on a bad night."""

import re
import shlex
import subprocess
from typing import get_args

import psycopg
import pytest

from pytest_tenantproof.backup.events import Stage
from pytest_tenantproof.cli import VERBS, parser
from pytest_tenantproof.controls.judge import functions
from tests.docs.conftest import Operator, Step, sections
from tests.support import REPOSITORY

DAILY = sections("RUNBOOK-MULTI-TENANT.md")
DISASTER = sections("RUNBOOK-DISASTER-RECOVERY.md")
RESTORE = re.compile(r"tenantproof restore .+ --target staging")  # the only ones that matter a second time
ORDER = [
    DAILY["Every day"],
    DISASTER["First: preserve what is there"],
    DISASTER["Restoring production"],
    DISASTER["A migration went wrong"],
    DISASTER["Suspected compromise"],
    DAILY["Where backups live"],
    DAILY["Restore drill, by hand"],
    DAILY["Key rotation"],
]


def test_every_command_is_run_or_said_to_run_elsewhere() -> None:
    everything = [*DAILY.values(), *DISASTER.values()]
    run = [*ORDER, DISASTER["Messages are missing"]]
    assert [section for section in everything if section and section not in run] == []


def _table() -> str:
    text = (REPOSITORY / "docs" / "RUNBOOK-MULTI-TENANT.md").read_text()
    return text.partition("## On call")[2].partition("\n## ")[0]


def on_call() -> list[Step]:
    """The first command of each alert, and what it says when all is well. These two servers have less than `status`
    asks for, so of its verdict it is only seen that there is one."""
    rows = [line.strip("|").split(" | ") for line in _table().splitlines() if line.startswith("|")][2:]
    found = [Step(row[2].strip(" `"), [row[3].strip(" `")]) for row in rows]
    return [Step(s.command, ["verdict:"]) if s.command.startswith("tenantproof status") else s for s in found]


def test_every_alert_and_every_family_has_its_row() -> None:
    for stage in get_args(Stage):
        assert f"| `{stage} failed` |" in _table()
    canaries = [id_ for id_ in functions() if id_.startswith("TP8") and id_ != "TP806"]  # which only warns
    assert set(canaries) <= set(re.findall(r"TP8\d\d", _table())) | {"TP802"}
    for digit in "12345679":
        assert f"TP{digit}xx" in _table()


@pytest.mark.parametrize("name", ["RUNBOOK-MULTI-TENANT.md", "RUNBOOK-DISASTER-RECOVERY.md"])
def test_every_call_in_the_text_is_one_that_the_command_line_takes(name: str) -> None:
    text = (REPOSITORY / "docs" / name).read_text()
    inline = [command for command in re.findall(r"`(tenantproof [^`]+)`", text) if shlex.split(command)[1] in VERBS]
    listed = [s.command for part in sections(name).values() for s in part if s.command.startswith("tenantproof")]
    assert len(inline) + len(listed) > 15
    for command in inline + listed:
        assert parser().parse_args(shlex.split(command)[1:]).verb in VERBS


@pytest.mark.parametrize("name", ["RUNBOOK-MULTI-TENANT.md", "RUNBOOK-DISASTER-RECOVERY.md"])
def test_every_page_that_a_runbook_points_to_exists(name: str) -> None:
    text = (REPOSITORY / "docs" / name).read_text()
    headings = {re.sub(r"[^a-z -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^## (.+)$", text, re.M)}
    for page in re.findall(r"\]\(([^)]+)\)", text):
        assert page[1:] in headings if page.startswith("#") else (REPOSITORY / "docs" / page).is_file(), page


def test_the_commands_say_what_the_runbooks_say(operator: Operator) -> None:
    """The drill last: staging has the product's schema then, as it has every night."""
    steps = [step for section in ORDER for step in section]
    [drill] = [step for step in steps if step.command.startswith("tenantproof drill ")]
    done = {drill.command}
    for step in steps:
        if step.command not in done or RESTORE.fullmatch(step.command):
            _run(operator, step)
        done.add(step.command)
    assert _messages(operator, operator.staging.dsn("staging")) == _messages(operator, operator.prod.dsn()) > 0
    _run(operator, drill)
    for step in {step.command: step for step in on_call() if step.command != drill.command}.values():
        _run(operator, step)


def test_missing_messages_come_back_and_nothing_else_changes(operator: Operator) -> None:
    before = _messages(operator, operator.prod.dsn())
    assert operator("tenantproof backup --target prod").returncode == 0
    assert operator("tenantproof migrate --target staging").returncode == 0
    assert operator("tenantproof environment --target staging --set staging").returncode == 0
    assert operator("tenantproof restore --from latest --source prod --target staging").returncode == 0
    for dsn in (operator.prod.dsn(), operator.staging.dsn("staging")):
        with psycopg.connect(dsn) as connection:
            gone = "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE tenant_id = %s LIMIT 7)"
            assert connection.execute(gone, [operator.environment["TENANT"]]).rowcount == 7
    text = (REPOSITORY / "docs" / "RUNBOOK-DISASTER-RECOVERY.md").read_text()
    [script] = re.findall(r"```sh\n(.+?) *```", text, re.S)
    for step in DISASTER["Messages are missing"]:
        if "missing.sql" in step.command and not (operator.folder / "missing.sql").exists():
            subprocess.run(["sh", "-euc", script], cwd=operator.folder, check=True)
        said = _run(operator, step)
        assert "INSERT 0 7\n" in said if "missing.sql" in step.command else True
    assert _messages(operator, operator.prod.dsn()) == before


def _run(operator: Operator, step: Step) -> str:
    done = operator(step.command)
    assert step.says or step.command.startswith("cp "), step.command
    for said in step.says:
        assert said in done.stdout + done.stderr, (step.command, done.stdout[-3000:], done.stderr)
    accepted = (0, 1) if "status" in step.command else (0,)
    assert done.returncode in accepted, (step.command, done.stdout, done.stderr)
    return done.stdout


def _messages(operator: Operator, dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM messages").fetchone()
    assert row is not None
    return int(row[0])
