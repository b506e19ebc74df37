"""A static dashboard of an evidence folder."""

from pytest_tenantproof.report.site.gather import Trust
from pytest_tenantproof.report.site.write import Built, build

__all__ = ["Built", "Trust", "build"]
