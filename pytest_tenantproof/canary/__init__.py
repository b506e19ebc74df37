"""Counting what must not be there: orphans, misaligned rows, failed onboardings, abnormal deletions."""

from pytest_tenantproof.canary.measure import Level, Reading, Readings, level_of, measure
from pytest_tenantproof.canary.paths import Path, paths

__all__ = ["Level", "Path", "Reading", "Readings", "level_of", "measure", "paths"]
