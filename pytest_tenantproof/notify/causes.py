"""What is wrong, by cause: one alert for one cause, again after a time, and a word when it is gone."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pytest_tenantproof.model import Severity

__all__ = ["Cause", "Change", "Open", "compare", "worst"]


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong: a control (`what`) on one object, or a stage of a job. Numbers and wording may change
    from run to run; they are no part of it."""

    target: str
    what: str
    object: str
    severity: Severity

    @property
    def fingerprint(self) -> str:
        """The same for the same cause in every run: 32 hex digits."""
        parts = (self.target, self.what, self.object)
        return hashlib.sha256(b"".join(b"%d:%b" % (len(p), p) for p in map(_bytes, parts))).hexdigest()[:32]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Open:
    """A cause that people were told of: since when it is there, and when they last heard of it. UTC."""

    cause: Cause
    since: datetime
    told: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What a run changes: causes nobody heard of, those due to be told again, those lately told, and those gone."""

    new: tuple[Cause, ...] = ()
    due: tuple[Cause, ...] = ()
    still: tuple[Cause, ...] = ()
    gone: tuple[Open, ...] = ()

    @property
    def raised(self) -> tuple[Cause, ...]:
        """What an alert is sent for."""
        return self.new + self.due


def compare(
    held: Mapping[str, Open],
    red: Iterable[Cause],
    settled: Callable[[Cause], bool],
    now: datetime,
    repeat: timedelta,
) -> Change:
    """`held` are open causes by fingerprint. One that is no longer red is gone only where the run has `settled` it:
    what it did not look at, or could not, stays open."""
    found = {cause.fingerprint: cause for cause in red}
    new = tuple(cause for key, cause in found.items() if key not in held)
    known = {key: cause for key, cause in found.items() if key in held}
    # A clock that was set back must not silence anything.
    due = {key for key in known if not timedelta(0) <= now - held[key].told < repeat}
    return Change(
        new,
        tuple(cause for key, cause in known.items() if key in due),
        tuple(cause for key, cause in known.items() if key not in due),
        tuple(entry for key, entry in held.items() if key not in found and settled(entry.cause)),
    )


def worst(causes: Iterable[Cause]) -> Severity | None:
    """The severity that decides who hears of them."""
    order = list(Severity)
    return min((cause.severity for cause in causes), key=order.index, default=None)
