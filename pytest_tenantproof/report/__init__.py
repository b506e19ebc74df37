"""What people and other tools read, rendered from report.json alone."""

from pytest_tenantproof.report.frameworks import render_frameworks
from pytest_tenantproof.report.html import render_html
from pytest_tenantproof.report.junit import render_junit
from pytest_tenantproof.report.oscal import render_oscal
from pytest_tenantproof.report.sarif import render_sarif
from pytest_tenantproof.report.sheet import render_csv
from pytest_tenantproof.report.terminal import checklist

__all__ = [
    "RENDERERS",
    "checklist",
    "render_csv",
    "render_frameworks",
    "render_html",
    "render_junit",
    "render_oscal",
    "render_sarif",
]

RENDERERS = {
    "report.html": render_html,
    "frameworks.html": render_frameworks,
    "junit.xml": render_junit,
    "results.sarif": render_sarif,
    "results.csv": render_csv,
    "oscal-ar.json": render_oscal,
}
"""The files of a bundle that follow from report.json."""
