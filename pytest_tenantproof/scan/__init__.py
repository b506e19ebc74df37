"""Looks for credentials in built front-end files: whatever a browser can load, everybody has."""

from pytest_tenantproof.scan.known import Known, known_of
from pytest_tenantproof.scan.walk import Leak, Scanned, scan

__all__ = ["Known", "Leak", "Scanned", "known_of", "scan"]
