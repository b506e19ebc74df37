"""The pages for a start: quick start, configuration, controls of one's own, alerts. Their commands are run."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_tenantproof.attest import keys
from pytest_tenantproof.attest.bundle import bundles
from pytest_tenantproof.cli import VERBS
from pytest_tenantproof.config.docs import page
from pytest_tenantproof.config.load import settings_from
from pytest_tenantproof.controls import catalogue
from pytest_tenantproof.controls.judge import functions
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import find_bin, start
from tests.docs.conftest import Operator, Step, sections
from tests.notify.support import http_sink
from tests.plugin.conftest import CONFIG
from tests.support import REPOSITORY

DOCS = REPOSITORY / "docs"


def test_the_configuration_page_is_in_step_and_explains_every_key() -> None:
    text = (DOCS / "CONFIGURATION.md").read_text()
    assert text == page(), "run `make docs`"
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 90
    assert [row for row in rows if re.search(r"\| *\|$", row)] == []


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda p: p.stem)
def test_settings_that_a_page_shows_are_settings(path: Path) -> None:
    for block in re.findall(r"```toml\n(.+?)```", path.read_text(), re.S):
        if "[tenantproof" in block:
            tomllib.loads(block)
            settings_from(block, source="tenantproof.toml", root=REPOSITORY)


@pytest.mark.parametrize("path", [*sorted(DOCS.glob("*.md")), REPOSITORY / "README.md"], ids=lambda p: p.stem)
def test_links_lead_somewhere_and_verbs_exist(path: Path) -> None:
    text = path.read_text()
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), link
    for verb in re.findall(r"`tenantproof ([a-z-]+)[^`]*`", text):
        assert verb in VERBS, verb


def _ids(text: str) -> set[str]:
    """Control ids that a cell names: TP101, TP2xx, TP104-TP107."""
    found = set(re.findall(r"TP\d{3}", text))
    for digit in re.findall(r"TP(\d)xx", text):
        found |= {i for i in functions() if i[2] == digit}
    for first, last in re.findall(r"(TP\d{3})-(TP\d{3})", text):
        found |= {i for i in functions() if first <= i <= last}
    return found


def test_the_checklist_of_the_readme_names_the_controls_of_each_item() -> None:
    part = (REPOSITORY / "README.md").read_text().partition("The checklist,")[2]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| ")][2:]
    proven = {row[0].split()[0]: _ids(row[2]) for row in rows}
    for found in catalogue():
        item = found.requirement if found.requirement in proven else found.requirement[0]
        assert found.id in proven[item], (found.id, item)
    assert set().union(*proven.values()) <= set(functions())
    assert [row[0] for row in rows if "`" not in row[1]] == []


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Operator]:
    """A folder with nothing in it, and a database somewhere."""
    with start(find_bin(18)) as server:
        apply(server.dsn(), migrations_folder())
        load_demo(server.dsn())
        base = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TENANTPROOF_", "CI"))}
        names = ("TENANTPROOF_INIT_DSN", "TENANTPROOF_PROD_DSN", "TENANTPROOF_STAGING_DSN")
        yield Operator(tmp_path, base | dict.fromkeys(names, server.dsn()), server, server)


def run(operator: Operator, step: Step, statuses: tuple[int, ...] = (0,)) -> None:
    assert step.says, f"{step.command} says nothing"
    done = operator(step.command)
    for said in step.says:
        assert said in done.stdout + done.stderr, (step.command, done.stdout[-3000:], done.stderr)
    assert done.returncode in statuses, (step.command, done.stdout[-3000:], done.stderr)


def test_the_quick_start_starts(newcomer: Operator) -> None:
    steps = sections("QUICKSTART.md")
    [embedded] = steps["Without a database"]
    there = Operator(REPOSITORY, newcomer.environment, newcomer.prod, newcomer.staging)
    run(there, Step(f"{embedded.command} --evidence-dir={newcomer.folder / 'tour'}", embedded.says))
    for step in steps["Your database"]:
        found = bundles(newcomer.folder / "evidence" / "prod")
        newcomer.environment["BUNDLE"] = str(found[-1]) if found else ""
        run(newcomer, step)
        if "keys new" in step.command:
            newcomer.environment[keys.KEY_FILE_VARIABLE] = "signing/tenantproof.key"


def test_the_control_of_the_page_runs_and_notices_its_fault(newcomer: Operator) -> None:
    text = (DOCS / "WRITING-CONTROLS.md").read_text()
    [code] = re.findall(r"```python\n(.+?)```", text, re.S)
    [more] = re.findall(r"```toml\n(.+?)```", text, re.S)
    (newcomer.folder / "controls").mkdir()
    (newcomer.folder / "controls" / "invoices.py").write_text(code)
    (newcomer.folder / "tenantproof.toml").write_text(CONFIG.replace("[tenantproof]\n", more, 1))
    plain, proving = sections("WRITING-CONTROLS.md")[""]
    run(newcomer, plain)
    run(newcomer, proving, (2,))  # -k narrows: never a verdict on the whole


def test_alerts_are_tried_as_the_page_says(newcomer: Operator) -> None:
    (newcomer.folder / "tenantproof.toml").write_text("[tenantproof]\n")
    with http_sink() as sink:
        newcomer.environment["TENANTPROOF_SLACK_WEBHOOK"] = sink.url
        found = [step for part in sections("ALERTS.md").values() for step in part]
        assert [step.command for step in found] == ["tenantproof notify --test", "tenantproof notify"]
        for step in found:
            run(newcomer, step)
        assert len(sink.requests) == 1
