"""The pages of the dashboard, from what was gathered. Every value is escaped by the templates."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pytest_tenantproof.report.html import render_page
from pytest_tenantproof.report.shape import ORDER
from pytest_tenantproof.report.site import history
from pytest_tenantproof.report.site.gather import Seen

__all__ = ["Frame", "index_page", "run_page", "run_path", "target_page", "target_path"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STYLE = "site.css"
SIGNS: Mapping[str, str] = {
    "error": "!",
    "failed": "✗",
    "not_run": "○",
    "waived": "w",
    "unverified": "?",
    "not_applicable": "–",
    "passed": "✓",
}
"""An outcome in one character: colour is never all that says it."""
SAID: Mapping[str, str] = {
    "verified": "verified by a trusted key",
    "integrity": "integrity only: signed by the key that came with it",
    "unverified": "unverified",
    "refused": "refused",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page says: when the site was built, and what is wrong with the history as a whole."""

    now: datetime
    log: str
    log_state: str
    """Of `log`: good (signed by a trusted key), bad, or "" for neither."""
    problems: Mapping[str, str]
    """By target: how its chain of runs is broken."""


def target_path(target: str) -> str:
    """Of a target's page in the site. A name that is no plain file name is replaced by its digest."""
    plain = target if _PLAIN.fullmatch(target) else f"target-{hashlib.sha256(target.encode()).hexdigest()[:16]}"
    return f"targets/{plain}/index.html"


def run_path(run: Seen) -> str:
    return target_path(run.folder).replace("index.html", f"{run.run_id}.html")


def _latest(runs: Sequence[Seen]) -> list[Seen]:
    """The newest run of each scope, the whole catalogue first. What cannot be read has a row of its own."""
    by_scope = {run.summary.scope if run.summary else "unreadable": run for run in runs}
    return [by_scope[scope] for scope in sorted(by_scope)]


def _age(run: Seen, now: datetime) -> str:
    """How old the run was when the site was built, by its name (UTC)."""
    try:
        made = datetime.strptime(run.run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "of no time"
    minutes = (now - made).total_seconds() / 60
    if minutes < -5:
        return "in the future"
    if minutes < 120:
        return f"{max(minutes, 0):.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"


def _page(template: str, frame: Frame, **values: Any) -> bytes:
    return render_page(
        template,
        more_style=_STYLE,
        frame=frame,
        verdict=history.verdict,
        shown=history.shown,
        said=SAID,
        signs=SIGNS,
        run_path=run_path,
        target_path=target_path,
        **values,
    )


def index_page(frame: Frame, targets: Mapping[str, Sequence[Seen]]) -> bytes:
    """The newest verdicts of every target, and what is wrong anywhere."""
    latest = [(target, run, _age(run, frame.now)) for target, runs in targets.items() for run in _latest(runs)]
    waived = [(run, *one) for _, run, _ in latest for one in history.waivers(run, frame.now.date())]
    refused = [run for runs in targets.values() for run in runs if run.state == "refused"]
    return _page("site.index.html.j2", frame, targets=targets, latest=latest, waived=waived, refused=refused[-50:])


def target_page(frame: Frame, target: str, runs: Sequence[Seen]) -> bytes:
    """One target's history."""
    unit, columns = history.buckets(runs)
    rows = history.heat(columns)
    changed = history.changes(runs)
    drills = [(run, run.summary.drill) for run in runs if run.summary and run.summary.drill]
    told = [(run, drill) for run, drill in drills if run.state != "refused"]
    latest = [(run, _age(run, frame.now)) for run in _latest(runs)]
    waived = [(run, *one) for run, _ in latest for one in history.waivers(run, frame.now.date())]
    return _page(
        "site.target.html.j2",
        frame,
        target=target,
        runs=runs,
        latest=latest,
        unit=unit,
        columns=columns,
        families=list(history.families(rows)),
        changed=changed,
        bars=history.bars(changed),
        drills=drills,
        charts=[*((name, history.chart([d[key] for _, d in told])) for name, key in _TRENDS.items()), _sizes(runs)],
        waived=waived,
    )


_TRENDS = {"RPO: age of the backup, seconds": "rpo_seconds", "RTO: time to the compared copy, seconds": "rto_seconds"}


_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def _sizes(runs: Sequence[Seen]) -> tuple[str, history.Chart | None]:
    """The backups' size, in the largest unit in which it has three digits."""
    sizes = [run.summary.stored_bytes for run in runs if run.summary and run.state != "refused"]
    largest = max((size for size in sizes if size), default=0)
    power = next((p for p in range(len(_UNITS) - 1, 0, -1) if largest >= 100 * 1000**p), 0)
    known = [size / 1000**power for size in sizes if size]
    return f"Backup size, {_UNITS[power]}", history.chart(known)


def run_page(frame: Frame, run: Seen) -> bytes:
    """One bundle: what it claims, and whether that verifies."""
    rows = run.summary.rows if run.summary else ()
    order = sorted(rows, key=lambda row: (ORDER.index(row.outcome), row.id))
    problems = [row for row in order if row.outcome not in ("passed", "not_applicable")]
    return _page("site.run.html.j2", frame, run=run, problems=problems, rest=order[len(problems) :])
