"""Looks for credentials in built front-end files: whatever a browser can load, everybody has."""

from pytest_tenantproof.scan.known import Known, known_of
from pytest_tenantproof.scan.look import look_in_source
from pytest_tenantproof.scan.walk import Leak, Scanned, contents, scan, scan_contents

__all__ = ["Known", "Leak", "Scanned", "contents", "known_of", "look_in_source", "scan", "scan_contents"]
