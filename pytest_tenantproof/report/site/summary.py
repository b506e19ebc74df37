"""What the dashboard keeps of a report: small, whatever the report's size, and cacheable as JSON."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

from pytest_tenantproof.report.shape import Report, headline, shown_outcome

__all__ = ["MARK", "SHOWN", "Row", "Summary", "summarise"]

MARK = 12
"""Hex digits of a finding's mark."""
SHOWN = 50
"""Findings of a control that are kept as text; all are counted."""
_LONGEST = 400
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One control of a run. `outcome` is as shown to people, so a waived failure is "waived". `marks` identifies
    each finding, whatever the numbers in its wording; `texts` are the first ones as (mark, object, detail)."""

    id: str
    title: str
    severity: str
    outcome: str
    reason: str
    found: int
    marks: str
    texts: tuple[tuple[str, str, str], ...]
    waiver: Mapping[str, str] | None

    def findings(self) -> set[str]:
        return {self.marks[at : at + MARK] for at in range(0, len(self.marks), MARK)}


@dataclass(frozen=True, slots=True)
class Summary:
    """One report. `started` and `finished` are UTC, RFC 3339; `drill` is as in the report;
    `scope` is "" for the whole catalogue."""

    run_id: str
    target: str
    class_: str
    started: str
    finished: str
    verdict: str
    headline: str
    scope: str
    server: str
    tool: str
    previous: Mapping[str, str] | None
    rows: tuple[Row, ...]
    drill: Mapping[str, Any] | None
    stored_bytes: int | None
    """Of the newest backup that the run saw."""

    def to_json(self) -> dict[str, Any]:
        """As asdict would, but a row is a list: there are many."""
        return {name: getattr(self, name) for name in _FIELDS} | {"rows": list(map(_IN_ROW, self.rows))}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Summary":
        return cls(**data | {"rows": tuple(_row_of(*row) for row in data["rows"])})


_FIELDS = tuple(field.name for field in fields(Summary))
_IN_ROW = attrgetter(*(field.name for field in fields(Row)))


def _row_of(*values: Any) -> Row:
    row = Row(*values)
    return replace(row, texts=tuple((mark, name, detail) for mark, name, detail in row.texts)) if row.texts else row


def summarise(report: Report) -> Summary:
    """The summary of a report that is as its schema says."""
    target = report["target"]
    return Summary(
        run_id=report["run_id"],
        target=target["name"],
        class_=target["class"],
        started=report["started"],
        finished=report["finished"],
        verdict=report["verdict"],
        headline=headline(report),
        scope=report["scope"]["expression"] or ("partial" if report["scope"]["narrowed"] else ""),
        server=f"PostgreSQL {target['server_version']}, database {target['database']}",
        tool=report["tool"]["version"],
        previous=report["previous"],
        rows=tuple(_row(control) for control in report["controls"]),
        drill=report.get("drill"),
        stored_bytes=_stored(report),
    )


def _stored(report: Report) -> int | None:
    seen = report.get("backup") or report.get("drill") or {}
    return seen.get("stored_bytes") or None


def _row(control: Report) -> Row:
    found = control["findings"]
    if not found and control["outcome"] == "failed":
        found = [{"object": control["id"], "detail": control["reason"]}]
    marked = {_mark(finding): finding for finding in found}
    texts = ((mark, _short(f["object"]), _short(f["detail"])) for mark, f in list(marked.items())[:SHOWN])
    return Row(
        id=control["id"],
        title=_short(control["title"]),
        severity=control["severity"],
        outcome=shown_outcome(control),
        reason=_short(control["reason"]),
        found=len(found),
        marks="".join(marked),
        texts=tuple(texts),
        waiver=control["waiver"],
    )


def _mark(finding: Report) -> str:
    parts = [finding["object"], _NUMBERS.sub("#", finding["detail"])]
    parts += [finding.get(name) for name in ("tenant", "role", "operation")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:MARK]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
