"""The green/red checklist, by family, with each finding's fix. Plain text unless `color`."""

from collections.abc import Iterator

from pytest_tenantproof.errors import plain
from pytest_tenantproof.report.shape import Report, counts, families, headline, shown_outcome

__all__ = ["checklist"]

_MARKS = {"passed": "ok", "failed": "FAIL", "error": "ERROR", "not_run": "NOT RUN", "not_applicable": "n/a"}
_COLORS = {"passed": 32, "failed": 31, "error": 31, "not_run": 33, "waived": 33, "not_applicable": 90}


def checklist(report: Report, *, color: bool = False, findings_shown: int = 5) -> Iterator[str]:
    """Lines to print. At most `findings_shown` findings a control; the report has them all."""

    def paint(text: str, outcome: str) -> str:
        return f"\x1b[{_COLORS[outcome]}m{text}\x1b[0m" if color else text

    for digit, name, controls in families(report):
        yield f"{digit}xx {name}"
        for control in controls:
            outcome = shown_outcome(control)
            mark = _MARKS.get(outcome, outcome)
            yield f"  {paint(f'{mark:>7}', outcome)}  {control['id']}  {plain(control['title'])}"
            if control["reason"]:
                yield f"           {plain(control['reason'])}"
            if outcome == "waived":
                yield f"           until {control['waiver']['expires']}: {plain(control['waiver']['reason'])}"
            yield from _findings(control, findings_shown)
    yield from _elsewhere(report)
    yield from _proven_alarms(report)
    numbers = ", ".join(f"{n} {outcome.replace('_', ' ')}" for outcome, n in counts(report).items())
    outcome = {"proven": "passed", "failed": "failed"}.get(report["verdict"], "not_run")
    yield f"verdict: {paint(headline(report), outcome)}: {numbers}"


def _elsewhere(report: Report) -> Iterator[str]:
    """What this class of target cannot run by design, and which bundle proves it."""
    listed = report.get("proven_elsewhere", ())
    if listed:
        yield "proven elsewhere"
    for there in listed:
        where = f"{there['target']} {there['run_id']}, {there['age_days']} days old" if there["run_id"] else ""
        said = "; ".join(filter(None, (there["problem"], where)))
        yield f"  {'NO' if there['problem'] else 'ok':>7}  {there['control']}  {plain(said)}"


def _proven_alarms(report: Report) -> Iterator[str]:
    """What `--prove` showed: how many faults were injected into a clone, and which controls are not proven by it."""
    if "prove" not in report:
        return
    tried = [c for c in report["controls"] if c["falsified"]]
    faults, seen = (sum(c["falsified"][key] for c in tried) for key in ("faults", "detected"))
    loose = [c for c in tried if c["falsified"].get("outcome", "passed") != "passed"]
    yield f"prove: {faults} faults injected into a clone, {seen} detected; {len(loose)} controls not proven by that"
    for control in loose:
        said = control["falsified"]
        yield f"  {said['outcome'].replace('_', ' '):>7}  {control['id']}  {plain(said['reason'])}"


def _findings(control: Report, shown: int) -> Iterator[str]:
    for finding in control["findings"][:shown]:
        yield f"           - {plain(finding['object'])}: {plain(finding['detail'])}"
        if finding["fix"]:
            yield f"             fix: {plain(finding['fix'])}"
    if (rest := len(control["findings"]) - shown) > 0:
        yield f"           ... and {rest} more in the report"
