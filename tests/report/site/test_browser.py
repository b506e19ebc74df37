"""The dashboard in a real browser: on a phone, on a desk, on paper, by keyboard."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from pytest_tenantproof.report.site import Trust, build
from tests.report.browser import browser, missing
from tests.report.site.conftest import History


def test_it_fits_asks_nobody_and_scrolls_by_keyboard(past: Callable[[], History]) -> None:
    if lacking := missing():
        pytest.skip(f"{lacking}; .ci/run installs them")
    history = past()
    out = history.root.parent / "site"
    build(history.root, out, Trust((history.signer.public,)), datetime(2026, 11, 6, tzinfo=UTC))
    with browser() as window:
        for page in (out / "index.html", *sorted((out / "targets/prod").glob("*.html"))[-2:]):
            for width in (390, 1200):
                window.open(page, width, 800)
                assert window.run("return document.documentElement.scrollWidth") <= width, page
                assert window.run("return performance.getEntriesByType('resource').length") == 0
                assert window.run("return getComputedStyle(document.querySelector('.skip')).position") == "absolute"
        assert window.run("return document.querySelector('.scroll').tabIndex") == 0
        assert window.print_pdf().startswith(b"%PDF")
        assert [line for line in window.log() if "favicon" not in line] == []
