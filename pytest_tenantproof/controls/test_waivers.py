"""9xx: what was excused or vouched for by people, and whether that still holds."""

from collections.abc import Mapping
from datetime import date

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.config.attestation import Attestation
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import EVIDENCE
from pytest_tenantproof.model import Control, Outcome, Result, Severity, Waiver
from pytest_tenantproof.waivers import EndOfRun, covers, problems

_SOME = Waiver("TP203", "public.x", "ann", "bob", "until the table is gone", date(2020, 1, 31))


@control("TP931", title="Waivers are sound", severity=Severity.HIGH, requirement="A1", maps=EVIDENCE)
@falsified_by(settings={"waivers": (_SOME,)}, given={"known": {}, "today": date(2020, 1, 30)})
@falsified_by(
    settings={"waivers": (_SOME,)},
    given={"known": {"TP203": Control("TP203", "", Severity.LOW, "", None, "", "")}, "today": date(2020, 2, 1)},
)
def test_waivers_are_sound(catalog: Catalog, known: Mapping[str, Control], today: date, findings: Findings) -> None:
    """A waiver that nobody else approved, that has no end, or that covers everything is a way to switch a control
    off. Such a waiver excuses nothing: the control stays failed, and the waiver is a finding.

    Give it an owner, another person as approver, a reason, an end within a year, and name the object.
    """
    for waiver in catalog.settings.waivers:
        for problem in problems(waiver, known, today):
            findings.add(f"waiver of {waiver.control} on {waiver.object}", problem)


@control("TP932", title="Waivers are still needed", severity=Severity.LOW, requirement="A1", maps=EVIDENCE)
@falsified_by(given={"ended": EndOfRun((Result("TP203", Outcome.PASSED),), (_SOME,))})
def test_waivers_are_needed(ended: EndOfRun, findings: Findings) -> None:
    """A waiver for what was mended long ago excuses the day on which it breaks again. Remove it.

    Judged when every other control of the run has its result.
    """
    results = {result.control: result for result in ended.results}
    for waiver in ended.waivers:
        result = results.get(waiver.control)
        if result is None:
            continue
        name = f"waiver of {waiver.control} on {waiver.object}"
        if result.outcome is Outcome.PASSED:
            findings.add(name, "the control passes now")
        elif result.findings and not any(covers(waiver, waiver.control, finding) for finding in result.findings):
            findings.add(name, "matches no finding of the control")


@control("TP951", title="Manual attestations are current", severity=Severity.LOW, requirement="A1", maps=EVIDENCE)
@falsified_by(
    settings={"attestations": (Attestation("keys are escrowed", "ann", date(2020, 1, 31)),)},
    given={"today": date(2020, 2, 1)},
)
def test_attestations_are_current(catalog: Catalog, today: date, findings: Findings) -> None:
    """What a person vouched for holds until the day they named. After that nobody vouches for it, and it reads as
    not run until somebody looks again and renews it in the configuration.
    """
    attestations = catalog.settings.attestations
    if not attestations:
        findings.not_applicable("nothing is attested by hand")
    if ended := [a for a in attestations if a.until < today]:
        findings.not_run("; ".join(f"{a.what} ({a.who}, until {a.until})" for a in ended))
