"""CSV (RFC 4180) for spreadsheets: one row a finding, and one for each control that has none."""

import csv
import io
from collections.abc import Iterator

from pytest_tenantproof.report.shape import Report, shown_outcome

__all__ = ["COLUMNS", "render_csv"]

COLUMNS = (
    *("run_id", "target", "finished", "control", "title", "severity", "requirement", "outcome", "waived_until"),
    *("reason", "object", "detail", "fix", "tenant", "role", "operation", "clauses"),
)


def render_csv(report: Report) -> bytes:
    """The report's controls and findings as UTF-8 with a header line."""
    out = io.StringIO()
    sheet = csv.writer(out, lineterminator="\r\n")
    sheet.writerow(COLUMNS)
    for control in report["controls"]:
        for row in _rows(report, control):
            sheet.writerow([_cell(value) for value in row])
    return out.getvalue().encode("utf-8", "backslashreplace")


def _rows(report: Report, control: Report) -> Iterator[tuple[str, ...]]:
    clauses = "; ".join(f"{name} {clause}" for name, listed in control["maps"].items() for clause in listed)
    about = (report["run_id"], report["target"]["name"], report["finished"], control["id"], control["title"])
    judged = (control["severity"], control["requirement"], shown_outcome(control))
    until = control["waiver"]["expires"] if control["waiver"] else ""
    for finding in control["findings"] or [{}]:
        fields = ("object", "detail", "fix", "tenant", "role", "operation")
        yield *about, *judged, until, control["reason"], *(finding.get(name) or "" for name in fields), clauses


def _cell(value: str) -> str:
    """Spreadsheets run what starts like a formula; an object's name may (OWASP, CSV injection)."""
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else value
