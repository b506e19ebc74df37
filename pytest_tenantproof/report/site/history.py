"""From runs to what changed: heat map, findings opened and closed, drills, waivers. Pure.

Bad news counts whoever says it; good news counts when its bundle is accepted. So an unverified pass is shown as
unverified, and closes no finding.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from pytest_tenantproof.control import FAMILIES
from pytest_tenantproof.report.shape import ORDER
from pytest_tenantproof.report.site.gather import Seen
from pytest_tenantproof.report.site.summary import Row

__all__ = [
    "Bucket",
    "Change",
    "Chart",
    "Heat",
    "bars",
    "buckets",
    "changes",
    "chart",
    "families",
    "heat",
    "shown",
    "verdict",
    "waivers",
]

COLUMNS = 60
_RANK = (*ORDER[:-2], "unverified", "not_applicable", "passed")
_GOOD = ("passed", "not_applicable", "waived", "proven")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A column of time: one run, or the runs of a day, week or month. Oldest first."""

    label: str
    runs: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Heat:
    """A control over time: the worst shown outcome in each bucket, "" where it was not in scope."""

    id: str
    title: str
    severity: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What one run changed: (control, object, detail) of findings, and how many there are in all."""

    run: Seen
    opened: int = 0
    closed: int = 0
    still_open: int = 0
    opened_texts: tuple[tuple[str, str, str], ...] = ()
    closed_texts: tuple[tuple[str, str, str], ...] = ()

    @property
    def moved(self) -> bool:
        return bool(self.opened or self.closed)


def shown(run: Seen, outcome: str) -> str:
    """An outcome as shown: what is good, and not verified by a trusted key, is only a claim."""
    return "unverified" if outcome in _GOOD and run.state != "verified" else outcome


def verdict(run: Seen) -> str:
    """The verdict as shown: refused and unreadable bundles have none."""
    if run.state == "refused" or run.summary is None:
        return "refused"
    return shown(run, run.summary.verdict)


def buckets(runs: Sequence[Seen]) -> tuple[str, tuple[Bucket, ...]]:
    """What a column is (run, day, week or month), and the newest columns: the finest that fit."""
    for what, name_of in _NAMES.items():
        found: dict[str, list[Seen]] = {}
        for run in runs:
            found.setdefault(name_of(run.run_id), []).append(run)
        if len(found) <= COLUMNS or what == "month":
            return what, tuple(Bucket(_label(name), tuple(inside)) for name, inside in found.items())[-COLUMNS:]
    raise AssertionError("months are last")


def _label(name: str) -> str:
    """A run's name as minute, the others as they are."""
    return f"{_day(name)} {name[9:11]}:{name[11:13]}" if len(name) > 10 else name


def _day(run_id: str) -> str:
    return f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}"


def _week(run_id: str) -> str:
    """Its Monday. A bundle's name has digits, which need not be those of a day."""
    try:
        day = date.fromisoformat(_day(run_id))
    except ValueError:
        return _day(run_id)
    return str(day - timedelta(days=day.weekday()))


_NAMES: Mapping[str, Callable[[str], str]] = {
    "run": lambda run_id: run_id,
    "day": _day,
    "week": _week,
    "month": lambda run_id: _day(run_id)[:7],
}


def heat(columns: Sequence[Bucket]) -> tuple[Heat, ...]:
    """A row for each control that any of the runs had, by id."""
    known: dict[str, Row] = {}
    worst: dict[str, dict[int, str]] = {}
    for at, column in enumerate(columns):
        for run in column.runs:
            for row in run.summary.rows if run.summary else ():
                known[row.id] = row
                cells = worst.setdefault(row.id, {})
                cells[at] = min(shown(run, row.outcome), cells.get(at, "passed"), key=_RANK.index)
    width = range(len(columns))
    return tuple(
        Heat(key, row.title, row.severity, tuple(worst[key].get(at, "") for at in width))
        for key, row in sorted(known.items())
    )


def families(rows: Iterable[Heat]) -> Iterator[tuple[str, str, list[Heat]]]:
    """(digit, name, rows) of each family."""
    groups: dict[str, list[Heat]] = {}
    for row in rows:
        groups.setdefault(next(c for c in row.id if c.isdigit()), []).append(row)
    for digit in sorted(groups):
        yield digit, FAMILIES[digit][1], groups[digit]


@dataclass(slots=True)
class _Open:
    """Findings that are open, by control: mark -> (control, object, detail)."""

    by_control: dict[str, dict[str, tuple[str, str, str]]] = field(default_factory=dict)

    def count(self) -> int:
        return sum(map(len, self.by_control.values()))


def changes(runs: Sequence[Seen]) -> tuple[Change, ...]:
    """One for each run that can be read, oldest first. A control that did not run, or erred, closes nothing."""
    state = _Open()
    return tuple(_change(run, run.summary.rows, state) for run in runs if run.summary and run.state != "refused")


def _change(run: Seen, rows: Sequence[Row], state: _Open) -> Change:
    opened: list[tuple[str, str, str]] = []
    closed: list[tuple[str, str, str]] = []
    for row in rows:
        if row.outcome not in ("passed", "failed", "waived"):
            continue
        before = state.by_control.setdefault(row.id, {})
        now = row.findings()
        texts = {mark: (row.id, name, detail) for mark, name, detail in row.texts}
        for mark in sorted(now - set(before)):
            before[mark] = texts.get(mark, (row.id, "", "one of many"))
            opened.append(before[mark])
        if run.state in ("verified", "integrity"):
            closed += [before.pop(mark) for mark in sorted(set(before) - now)]
    return Change(run, len(opened), len(closed), state.count(), _first(opened), _first(closed))


def _first(texts: Iterable[tuple[str, str, str]]) -> tuple[tuple[str, str, str], ...]:
    return tuple(text for text in texts if text[1])[:20]


def waivers(run: Seen, today: date) -> list[tuple[Row, Mapping[str, str], int]]:
    """Waivers that the run applied, and the days that each has left (negative: over), soonest first."""
    rows = run.summary.rows if run.summary else ()
    found = [(row, row.waiver, _days_left(row.waiver["expires"], today)) for row in rows if row.waiver]
    return sorted(found, key=lambda one: (one[2], one[0].id))


def _days_left(expires: str, today: date) -> int:
    """A date that is none is over."""
    try:
        return (date.fromisoformat(expires) - today).days
    except ValueError:
        return -1


HEIGHT, WIDTH = 100.0, 600.0
"""Of a chart, in its own units."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A line: points (x, y, value) from the left, and the largest and newest value."""

    points: tuple[tuple[float, float, float], ...]
    largest: float
    newest: float


def chart(values: Sequence[float | None]) -> Chart | None:
    """A line through the values that are known, or None where none is."""
    known = [(at, value) for at, value in enumerate(values) if value is not None]
    if not known:
        return None
    largest = max(max(value for _, value in known), 1e-9)
    step = WIDTH / max(len(values) - 1, 1)
    points = tuple((round(at * step, 1), round(HEIGHT * (1 - max(v, 0) / largest), 1), v) for at, v in known)
    return Chart(points, largest, known[-1][1])


def bars(changed: Sequence[Change]) -> list[tuple[float, float, float, float]]:
    """(x, width, height up, height down) of each run's opened and closed findings; the newest COLUMNS runs."""
    newest = changed[-COLUMNS:]
    largest = max((max(c.opened, c.closed) for c in newest), default=0) or 1
    step, half = WIDTH / max(len(newest), 12), HEIGHT / 2
    return [
        (
            round(at * step, 1),
            round(step * 0.7, 1),
            round(half * c.opened / largest, 1),
            round(half * c.closed / largest, 1),
        )
        for at, c in enumerate(newest)
    ]
