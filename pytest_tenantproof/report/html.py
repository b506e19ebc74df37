"""report.html: one self-contained page for people. Nothing is fetched; every value is escaped."""

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from pytest_tenantproof.report.shape import (
    ORDER,
    SEVERITIES,
    Report,
    counts,
    families,
    family,
    headline,
    problems,
    shown_outcome,
)

__all__ = ["render_html", "render_page"]


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_tenantproof.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _asset(name: str) -> str:
    return resources.files("pytest_tenantproof.report").joinpath("templates", name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    """A Content-Security-Policy source for an inline script or style (CSP Level 3, section 2.3.1)."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def render_page(template: str, *, script: str = "", more_style: str = "", **values: Any) -> bytes:
    """A template of this room with its style and script inline, and a policy that allows just these.

    `more_style` names a style sheet that follows the common one.
    """
    style = _asset("report.css") + (_asset(more_style) if more_style else "")
    allowed = f"script-src {_source_hash(script)}; " if script else ""
    page = (
        _environment()
        .get_template(template)
        .render(
            script=Markup(script),  # noqa: S704 - our own file
            style=Markup(style),  # noqa: S704 - our own file
            policy=f"default-src 'none'; {allowed}style-src {_source_hash(style)}",
            **values,
        )
    )
    return page.encode("utf-8", "backslashreplace")


def render_html(report: Report) -> bytes:
    """The page for a report.json."""
    return render_page(
        "report.html.j2",
        script=_asset("report.js"),
        report=report,
        headline=headline(report),
        counts=counts(report),
        families=families(report),
        family=family,
        problems=problems(report),
        shown=shown_outcome,
        order=ORDER,
        severities=SEVERITIES,
    )
