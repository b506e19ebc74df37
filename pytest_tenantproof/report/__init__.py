"""What people and other tools read, rendered from report.json alone."""

from pytest_tenantproof.report.html import render_html
from pytest_tenantproof.report.junit import render_junit
from pytest_tenantproof.report.terminal import checklist

__all__ = ["checklist", "render_html", "render_junit"]
