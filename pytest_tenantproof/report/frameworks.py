"""frameworks.html: requirement -> controls -> outcome, for each framework that controls map to.

Clauses that no control maps to are shown as unmapped, so that a page full of green says what it does not cover.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_tenantproof.report.html import render_page
from pytest_tenantproof.report.shape import ORDER, Report, headline, shown_outcome

__all__ = ["CLAUSES", "Clause", "render_frameworks", "view"]


def _numbered(prefix: str, last: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(1, last + 1))


CLAUSES: Mapping[str, tuple[str, ...]] = {
    # AICPA Trust Services Criteria 2017: common criteria, availability, confidentiality, processing integrity
    "SOC2": (
        *(c for group, last in enumerate((5, 3, 4, 2, 3, 8, 5, 1, 2), 1) for c in _numbered(f"CC{group}.", last)),
        *(*_numbered("A1.", 3), *_numbered("C1.", 2), *_numbered("PI1.", 5)),
    ),
    # ISO/IEC 27001:2022, Annex A
    "ISO27001:2022": (*_numbered("A.5.", 37), *_numbered("A.6.", 8), *_numbered("A.7.", 14), *_numbered("A.8.", 34)),
    # NIST SP 800-53 rev. 5: the families that a database can give evidence for
    "NIST-800-53": (
        *(*_numbered("AC-", 25), *_numbered("AU-", 16), *_numbered("CA-", 9), *_numbered("CM-", 14)),
        *(*_numbered("CP-", 13), *_numbered("SC-", 51), *_numbered("SI-", 23)),
    ),
}
"""Clauses by framework, where the whole list is public. Of others, only those that controls name are shown."""

_RANK = (*ORDER[:-1], "attested", "passed")
_NAMES = {
    "SOC2": "SOC 2 (Trust Services Criteria)",
    "ISO27001:2022": "ISO/IEC 27001:2022, Annex A",
    "NIST-800-53": "NIST SP 800-53 rev. 5",
    "CIS-PG17": "CIS PostgreSQL 17 Benchmark (clauses that controls name)",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause, the controls and attestations (without id) that map to it with their outcomes, and the worst
    of these ("unmapped": there are none)."""

    id: str
    controls: tuple[tuple[str, str, str], ...]

    @property
    def outcome(self) -> str:
        return min((outcome for _, _, outcome in self.controls), key=_RANK.index, default="unmapped")


def view(report: Report) -> Iterator[tuple[str, str, tuple[Clause, ...]]]:
    """(framework, its name, clauses in order) for each framework that is known or mapped to."""
    mapped: dict[str, dict[str, list[tuple[str, str, str]]]] = {name: {} for name in CLAUSES}
    for control in report["controls"]:
        for framework, clauses in control["maps"].items():
            for clause in clauses:
                row = (control["id"], control["title"], shown_outcome(control))
                mapped.setdefault(framework, {}).setdefault(clause, []).append(row)
    for attestation in report.get("attestations", ()):
        for framework, clauses in attestation["clauses"].items():
            for clause in clauses:
                row = ("", f"{attestation['what']} ({attestation['who']})", attestation["outcome"])
                mapped.setdefault(framework, {}).setdefault(clause, []).append(row)
    for framework, found in sorted(mapped.items()):
        listed = CLAUSES.get(framework, ())
        order = (*listed, *sorted(set(found) - set(listed)))
        yield framework, _NAMES.get(framework, framework), tuple(Clause(c, tuple(found.get(c, ()))) for c in order)


def render_frameworks(report: Report) -> bytes:
    """The page for a report.json."""
    unmapped = [control for control in report["controls"] if not control["maps"]]
    return render_page(
        "frameworks.html.j2", report=report, headline=headline(report), frameworks=list(view(report)), unmapped=unmapped
    )
