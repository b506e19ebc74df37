"""One whole run on a staging target: it changes nothing, tells no password, and every table of it is complete."""

import html
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pytest_tenantproof.attest import bundle
from pytest_tenantproof.catalog import digest, read_snapshot
from pytest_tenantproof.controls import catalogue
from pytest_tenantproof.target import EmbeddedPostgres
from tests.plugin.conftest import Run, Tool
from tests.support import FAULTS

CLUSTER_WIDE = "SELECT rolname, rolconfig FROM pg_roles UNION ALL SELECT datname, NULL FROM pg_database ORDER BY 1"


@dataclass(frozen=True)
class Whole:
    folder: Path
    done: subprocess.CompletedProcess[str]
    before: tuple[Any, ...]
    after: tuple[Any, ...]

    def report(self) -> dict[str, Any]:
        [path] = bundle.bundles(self.folder / "evidence" / "staging")
        found: dict[str, Any] = json.loads((path / "report.json").read_bytes())
        return found


def state(dsn: str) -> tuple[Any, ...]:
    """The catalog's digest, every row of every table that is not Postgres' own, and roles and databases."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class c WHERE relkind = 'r' AND relpersistence <> 't'"
            " AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) ORDER BY 1"
        ).fetchall()
        rows = [
            connection.execute(
                f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} t".encode()
            ).fetchone()
            for (name,) in tables
        ]
        return digest(read_snapshot(connection)), tables, rows, connection.execute(CLUSTER_WIDE).fetchall()


@pytest.fixture
def whole(run: Run, tmp_path: Path, product: EmbeddedPostgres) -> Whole:
    before = state(product.dsn())
    done = run("--evidence=staging", "-vv", "-rA", "--setup-show", "-l", "--html=page.html", "--self-contained-html")
    return Whole(tmp_path, done, before, state(product.dsn()))


def test_a_whole_run_on_staging(whole: Whole, product: EmbeddedPostgres) -> None:
    """One test, because a run takes long; each part says what it looks at."""
    _it_wrote_and_nothing_stays(whole)
    _no_password_is_told(whole, product)
    _pytest_html_has_a_row_for_each_control(whole)


def _it_wrote_and_nothing_stays(whole: Whole) -> None:
    report = whole.report()
    assert [c["id"] for c in report["controls"]] == [c.id for c in catalogue()]
    probes = [c for c in report["controls"] if c["id"].startswith("TP30")]
    assert {c["outcome"] for c in probes} == {"passed"}, "what attacks by writing was not run"
    assert len(whole.before[1]) > 10
    assert sum(count for count, _ in whole.before[2]) > 6000
    assert whole.after == whole.before


def _no_password_is_told(whole: Whole, product: EmbeddedPostgres) -> None:
    assert product.password is not None
    texts = [whole.done.stdout, whole.done.stderr]
    texts += [p.read_text("utf-8", "replace") for p in whole.folder.rglob("*") if p.is_file() and "keys" not in p.parts]
    assert len(texts) > 10
    assert not [text for text in texts if product.password in text]


def _pytest_html_has_a_row_for_each_control(whole: Whole) -> None:
    page = html.unescape((whole.folder / "page.html").read_text())
    [data] = re.findall(r'data-jsonblob="(\{.+?\})"></div>', page, re.S)
    rows: dict[str, tuple[str, str]] = {}
    for found in json.loads(data)["tests"].values():
        for entry in found:
            cells = [re.sub(r"<[^>]+>", "", cell) for cell in entry["resultsTableRow"]]
            rows[cells[1]] = (cells[2], cells[3])
    outcomes = {c["id"]: (c["severity"], c["outcome"]) for c in whole.report()["controls"]}
    late = {i for i in outcomes if i not in rows}  # judged when all others have ended
    assert late <= {"TP921", "TP931", "TP932", "TP933"}, late
    assert rows == {i: said for i, said in outcomes.items() if i not in late}
    assert {"passed", "not_applicable"} <= {outcome for _, outcome in rows.values()}


WRONG = "hunter2/se@cret"


@pytest.mark.parametrize(
    ("verb", "spelled", "said_instead"),
    [
        (["status"], "uri", "password authentication failed"),
        (["status"], "malformed", "malformed"),
        (["migrate"], "uri", "password authentication failed"),
        (["migrate", "--json"], "pairs", "password authentication failed"),
        (["migrate"], "malformed", "malformed"),
    ],
)
def test_no_verb_tells_a_password(
    tool: Tool, tmp_path: Path, product: EmbeddedPostgres, verb: list[str], spelled: str, said_instead: str
) -> None:
    """Also where it is percent-encoded, and where the connection string makes no sense."""
    place = conninfo_to_dict(product.dsn())
    dsn = {
        "uri": f"postgresql://postgres:{quote(WRONG, safe='')}@{place['host']}:{place['port']}/postgres",
        "pairs": product.dsn(password=WRONG),
        "malformed": f"postgresql://postgres:{WRONG}@{place['host']}:{place['port']}/postgres",
    }[spelled]
    names = ("TENANTPROOF_STAGING_DSN", "TENANTPROOF_STAGING_WRITER_DSN")
    done = tool(*verb, "--target", "staging", **dict.fromkeys(names, dsn))
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert said_instead in said
    assert "Remedy: " in said or '"remedy"' in said
    assert "Traceback" not in said
    assert not [part for part in (WRONG, quote(WRONG, safe=""), "hunter2", "se@cret", "cret") if part in said]
    assert not list((tmp_path / "evidence").rglob("report.json"))


def test_a_hardened_product_of_another_design_is_proven(
    tool: Tool, run: Run, tmp_path: Path, faults_database: str
) -> None:
    """The benchmark's base, by its own config, its catalog approved: no finding in what it has."""
    text = (FAULTS / "tenantproof.toml").read_text()
    (tmp_path / "tenantproof.toml").write_text(text)
    locked = tool("init", "--lock", TENANTPROOF_INIT_DSN=faults_database)
    assert locked.returncode == 0, locked.stderr
    assert (tmp_path / "tenantproof.toml").read_text() == text
    scope = "invariant or rls or probe or audit or evidence"
    done = run("--evidence=bench", "-m", scope, TENANTPROOF_BENCH_DSN=faults_database)
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"verdict: PROVEN (scope: {scope}, " in done.stdout
    [path] = bundle.bundles(tmp_path / "evidence" / "bench")
    report = json.loads((path / "report.json").read_bytes())
    assert [c["id"] for c in report["controls"] if c["findings"]] == []
    assert {c["outcome"] for c in report["controls"]} == {"passed", "not_applicable"}
    assert len([c for c in report["controls"] if c["outcome"] == "passed"]) > 90
