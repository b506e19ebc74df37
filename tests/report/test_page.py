"""report.html as people get it: alone, on a phone, filtered, on paper."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.report import RENDERERS, render_html
from tests.report.browser import CONTRAST, Browser

CHOOSE = "const s = document.querySelectorAll('select')[{}]; s.value = '{}'; s.dispatchEvent(new Event('input'))"


class _Addresses(HTMLParser):
    """Everything in a page that a browser could go and get."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_the_page_is_self_contained_and_escaped(report: dict[str, Any]) -> None:
    text = render_html(report).decode()
    addresses = _Addresses()
    addresses.feed(text)
    assert addresses.found
    assert all(address.startswith("#") for address in addresses.found)
    assert "url(" not in text
    assert "@import" not in text
    assert "<script>alert(1)" not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;;")


def test_findings_come_first_and_the_worst_of_them_first(report: dict[str, Any]) -> None:
    text = render_html(report).decode()
    assert text.index('id="findings"') < text.index('id="controls"')
    shown = re.findall(r'class="row problem (\w+)"', text)
    assert shown == ["error", "failed", "failed", "not_run", "waived"]


@pytest.fixture
def page(report: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_bytes(render_html(report))
    return path


def _visible(window: Browser, selector: str) -> int:
    script = f"return [...document.querySelectorAll('{selector}')].filter((e) => e.offsetParent).length"
    return int(window.run(script))


@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_the_screen_and_asks_nobody_for_anything(window: Browser, page: Path, width: int) -> None:
    window.open(page, width, 800)
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.run("return performance.getEntriesByType('resource').length") == 0
    assert window.run("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    assert [line for line in window.log() if "favicon" not in line] == []


def test_filters_by_outcome_and_family(window: Browser, page: Path) -> None:
    window.open(page, 1200, 800)
    assert _visible(window, "details.control") == 7
    assert _visible(window, "article.problem") == 5
    window.run(CHOOSE.format(0, "failed"))
    assert _visible(window, "details.control") == 2
    assert _visible(window, "article.problem") == 2
    assert window.run("return document.getElementById('shown').textContent") == "2 of 7 controls shown"
    window.run(CHOOSE.format(1, "1"))
    assert _visible(window, "details.control") == 2
    window.run(CHOOSE.format(0, "passed"))
    assert _visible(window, "article.problem") == 0


def test_a_finding_leads_to_its_control(window: Browser, page: Path) -> None:
    window.open(page, 390, 800)
    window.run("document.querySelector('article.problem a').click()")
    assert window.run("return document.querySelector(location.hash).open") is True


def test_paper_has_everything_whatever_was_filtered(window: Browser, page: Path) -> None:
    window.open(page, 1200, 800)
    window.run(CHOOSE.format(0, "passed"))
    assert window.print_pdf().startswith(b"%PDF")
    rules = window.run(
        "return [...document.styleSheets[0].cssRules].filter((r) => r.media?.mediaText === 'print')"
        ".map((r) => r.cssText).join('')"
    )
    assert ".hidden" in rules
    assert "revert" in rules


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(window: Browser, report: dict[str, Any], tmp_path: Path, scheme: str) -> None:
    window.prefer(scheme)
    for name in ("report.html", "frameworks.html"):
        path = tmp_path / name
        path.write_bytes(RENDERERS[name](report))
        window.open(path, 1200, 800)
        found = window.run(CONTRAST)
        assert found["looked"] > 40
        assert found["bad"] == [], name
