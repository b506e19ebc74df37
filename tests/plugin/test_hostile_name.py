"""A table whose name is a script: text in everything that a run leaves, and in the site; run by nothing.

Every file is read by its own rules: what is escaped has to be there once it is unescaped.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import psycopg
import pytest
from psycopg import sql

from pytest_tenantproof.report import RENDERERS
from pytest_tenantproof.target import EmbeddedPostgres
from tests.plugin.conftest import Run, Tool
from tests.plugin.test_runs import newest
from tests.report.browser import Browser

NAME = "<script>window.hit=1</script><img src=x onerror=window.hit=1>"
NAMELESS = {"frameworks.html", "statement.intoto.jsonl"}
"""Files that name no object of a database at all."""


@pytest.fixture
def hostile(product: EmbeddedPostgres) -> Iterator[str]:
    """The DSN of a database like the product's with one more table."""
    with psycopg.connect(product.dsn("template1"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE hostile TEMPLATE postgres")
        admin.execute("REVOKE CREATE, TEMPORARY ON DATABASE hostile FROM PUBLIC")
        try:
            with psycopg.connect(product.dsn("hostile"), autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE TABLE {} (id int)").format(sql.Identifier(NAME)))
            yield product.dsn("hostile")
        finally:
            admin.execute("DROP DATABASE hostile WITH (FORCE)")


class _Page(HTMLParser):
    """Text of a page, and what in it could run or be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.active = "", list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "iframe", "object", "embed"):
            self.active.append(tag)
        self.active += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def _html(data: bytes) -> str:
    page = _Page()
    page.feed(data.decode())
    assert set(page.active) <= {"script"}
    assert page.active.count("script") == data.count(b"<script>"), "what is a script to one reader is one to the other"
    return page.text


def _json(data: bytes) -> str:
    def texts(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for inner in value.values():
                yield from texts(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from texts(inner)

    return "\n".join(texts(json.loads(data)))


def _csv(data: bytes) -> str:
    return "\n".join(cell for row in csv.reader(io.StringIO(data.decode(), newline=""), strict=True) for cell in row)


def _xml(data: bytes) -> str:
    return "\n".join(ET.fromstring(data).itertext())


READERS: dict[str, Callable[[bytes], str]] = {
    ".html": _html,
    ".json": _json,
    ".sarif": _json,
    ".jsonl": _json,
    ".csv": _csv,
    ".xml": _xml,
}


def test_a_script_for_a_name_is_text_wherever_it_comes(
    run: Run, tool: Tool, tmp_path: Path, hostile: str, window: Browser
) -> None:
    done = run("--evidence=staging", "-m", "invariant", TENANTPROOF_STAGING_DSN=hostile)
    assert done.returncode == 1, done.stdout[-3000:]
    assert NAME in done.stdout
    path, _ = newest(tmp_path, "staging")
    files = {file.name: file for file in path.iterdir()}
    assert set(files) == {*RENDERERS, "report.json", "statement.intoto.jsonl"}
    for name, file in files.items():
        text = READERS[file.suffix](file.read_bytes())
        assert (NAME in text) is (name not in NAMELESS), name
        assert b"<script>window" not in file.read_bytes() or file.suffix in (".json", ".sarif", ".csv"), name
    built = tool("site", "--evidence", "evidence", "--key", "keys/tenantproof.pub", "--out", "site")
    assert built.returncode == 0, built.stdout + built.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) == 3
    shown = {page: NAME in _html(page.read_bytes()) for page in pages}
    assert shown == {page: page.parent.name == "staging" for page in pages}
    for page in (files["report.html"], files["frameworks.html"], *pages):
        window.open(page, 1200, 800)
        assert window.run("return window.hit === undefined"), page
        assert window.run("return document.images.length") == 0
        seen = NAME in window.run("return document.body.textContent")
        assert seen is (shown.get(page, page.name == "report.html")), page
    # the browser would say so
    raw = tmp_path / "raw.html"
    raw.write_text(f"<p>{NAME}</p>")
    window.open(raw, 1200, 800)
    assert window.run("return window.hit") == 1
