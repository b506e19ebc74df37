"""The dashboard in a real browser: on a phone, on a desk, on paper, in the dark, by keyboard."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pytest_tenantproof.report.site import Trust, build
from tests.report.browser import CONTRAST, Browser
from tests.report.site.conftest import History

FOCUSED = """
const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
const all = [...document.querySelectorAll("a, summary, [tabindex]")].filter((e) => e.checkVisibility());
return {
    at: all.indexOf(e), of: all.length, tag: e.tagName, name: e.className,
    shown: box.width > 0 && box.left >= 0 && box.top < innerHeight && box.bottom > 0,
    outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
};
"""


@pytest.fixture
def site(past: Callable[[], History]) -> Path:
    history = past()
    out = history.root.parent / "site"
    build(history.root, out, Trust((history.signer.public,)), datetime(2026, 11, 6, tzinfo=UTC))
    return out


def _pages(out: Path) -> list[Path]:
    """The index, a target, and its newest and oldest run."""
    runs = sorted((out / "targets/prod").glob("2*.html"))
    return [out / "index.html", out / "targets/prod/index.html", runs[0], runs[-1]]


def test_it_fits_asks_nobody_and_prints(site: Path, window: Browser) -> None:
    for page in _pages(site):
        for width in (390, 1200):
            window.open(page, width, 800)
            assert window.run("return document.documentElement.scrollWidth") <= width, page
            assert window.run("return performance.getEntriesByType('resource').length") == 0
            assert window.run("return getComputedStyle(document.querySelector('.skip')).position") == "absolute"
    assert window.print_pdf().startswith(b"%PDF")
    assert [line for line in window.log() if "favicon" not in line] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(site: Path, window: Browser, scheme: str) -> None:
    window.prefer(scheme)
    for page in _pages(site):
        window.open(page, 1200, 800)
        found = window.run(CONTRAST)
        assert found["looked"] > 20
        assert found["bad"] == [], page


def test_numbers_have_names_on_a_phone(site: Path, window: Browser) -> None:
    """A stacked table has no head to say what a number is."""
    window.open(site / "targets/prod/index.html", 390, 800)
    cells = "[...document.querySelectorAll('.stack td.num')]"
    script = f"return {cells}.map((e) => getComputedStyle(e, '::before').content.split(':')[0].slice(1))"
    assert set(window.run(script)) >= {"Age", "Open", "RPO", "RTO"}
    window.open(site / "targets/prod/index.html", 1200, 800)
    assert set(window.run(script)) == {"one"}  # none


def test_the_contrast_test_sees_what_is_faint(site: Path, window: Browser) -> None:
    window.prefer("light")
    window.open(site / "index.html", 1200, 800)
    window.run("document.querySelector('h1').style.color = '#aaa'")
    assert [name for name, *_ in window.run(CONTRAST)["bad"]] == ["Evidence of tenant isolation and recovery"]


def test_everything_is_reached_by_keyboard_and_seen_to_be(site: Path, window: Browser) -> None:
    window.open(site / "targets/prod/index.html", 1200, 800)
    order = []
    for _ in range(200):
        window.press("Tab")
        focused = window.run(FOCUSED)
        if focused["at"] < 0 or focused["at"] in order:
            break
        assert focused["shown"], focused
        assert focused["outline"], focused
        order.append(focused["at"])
    assert order == list(range(focused["of"]))


def test_the_keyboard_skips_scrolls_and_opens(site: Path, window: Browser) -> None:
    window.open(site / "targets/prod/index.html", 1200, 800)
    window.press("Tab")
    assert window.run(FOCUSED)["name"] == "skip"
    window.press("Enter")
    assert window.run("return location.hash") == "#main"
    window.open(site / "targets/prod/index.html", 390, 800)
    window.run("document.querySelector('.scroll').focus()")
    window.press("End")
    window.press("Right")
    window.run("document.querySelector('summary').focus()")
    window.press("Enter")
    assert window.run("return document.querySelector('details').open")
