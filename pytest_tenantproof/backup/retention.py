"""Which backups are kept: the newest of each day, ISO week and month, in UTC.

A period counts when it has a verified backup, so that a gap never shortens what is kept. The tiers overlap:
the newest of a week is also the newest of its day, and counts for both; so with 30, 12 and 12 at most 54 are
kept. Removal needs no clock but the order of runs; the clocks are compared all the same, because a wrong one
has also put wrong names on backups.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pytest_tenantproof.backup.examine import Examined, Verified, examine_all
from pytest_tenantproof.backup.manifest import manifest_name
from pytest_tenantproof.backup.runs import claim_name, load_manifest
from pytest_tenantproof.backup.store import ObjectLocked, Store
from pytest_tenantproof.errors import RetentionError, TenantproofError

__all__ = ["Period", "Policy", "Retained", "RetentionPlan", "Tier", "apply_retention", "plan_retention"]

SKEW = timedelta(hours=1)


class Tier(StrEnum):
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True)
class Period:
    """A day, an ISO week or a month. The tier is part of it: week 1 of 2026 is not January 2026."""

    tier: Tier
    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.tier} {self.year}-{self.number:0{3 if self.tier is Tier.DAILY else 2}}"


def _day(time: datetime) -> Period:
    return Period(Tier.DAILY, time.year, time.timetuple().tm_yday)


def _week(time: datetime) -> Period:
    year, week, _ = time.isocalendar()
    return Period(Tier.WEEKLY, year, week)


def _month(time: datetime) -> Period:
    return Period(Tier.MONTHLY, time.year, time.month)


_PERIODS: Mapping[Tier, Callable[[datetime], Period]] = {Tier.DAILY: _day, Tier.WEEKLY: _week, Tier.MONTHLY: _month}


@dataclass(frozen=True, slots=True)
class Policy:
    """How many days, weeks and months keep their newest backup. Raises RetentionError for a negative number."""

    daily: int
    weekly: int
    monthly: int

    def __post_init__(self) -> None:
        if min(self.daily, self.weekly, self.monthly) < 0:
            raise RetentionError("retention is negative.", remedy="correct [tenantproof.backup].")


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """`keep`: run -> the periods it stands for. `future`: dated later than now; neither counted nor removed."""

    keep: Mapping[str, tuple[Period, ...]]
    remove: tuple[str, ...]
    future: tuple[str, ...]


def plan_retention(backups: Iterable[tuple[str, datetime]], policy: Policy, now: datetime) -> RetentionPlan:
    """Decides by run id and time of verified backups alone. The newest is kept whatever the policy says."""
    ordered = sorted(backups, key=lambda item: (item[1], item[0]), reverse=True)
    future = tuple(run for run, time in ordered if time > now + SKEW)
    present = [(run, time.astimezone(UTC)) for run, time in ordered if time <= now + SKEW]
    keep: dict[str, list[Period]] = {run: [] for run, _ in present[:1]}
    counts = {Tier.DAILY: policy.daily, Tier.WEEKLY: policy.weekly, Tier.MONTHLY: policy.monthly}
    for tier, count in counts.items():
        seen: set[Period] = set()
        for run, time in present:
            period = _PERIODS[tier](time)
            if period not in seen and len(seen) < count:
                seen.add(period)
                keep.setdefault(run, []).append(period)
    remove = tuple(run for run, _ in reversed(present) if run not in keep)
    return RetentionPlan({run: tuple(periods) for run, periods in keep.items()}, remove, future)


@dataclass(frozen=True, slots=True)
class Retained:
    """What retention did, or in a dry run would do. `locked`: Object Lock keeps them for now; `refused`: not
    verified, with the reason; these are never removed."""

    plan: RetentionPlan
    removed: tuple[str, ...]
    locked: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    dry_run: bool


def apply_retention(
    store: Store,
    key_store: Store,
    trusted: Mapping[str, bytes],
    *,
    target: str,
    policy: Policy,
    now: datetime,
    newest: str = "",
    max_age: timedelta = timedelta(hours=26),
    dry_run: bool = False,
) -> Retained:
    """Removes what no tier keeps. `newest` is the backup just made; without it, the newest of the store must not
    be older than `max_age`. Raises RetentionError, having removed nothing it does not name.
    """
    try:
        examined = examine_all(store, trusted, target)
        _require_sound(store, examined, now, newest, max_age)
    except RetentionError:
        raise
    except TenantproofError as error:
        raise RetentionError(f"nothing was removed: {error.message}", remedy=error.remedy) from error
    plan = plan_retention(((v.run, v.time) for v in examined.verified), policy, now)
    removed, locked = (plan.remove, ()) if dry_run else _removed(store, key_store, trusted, plan.remove)
    return Retained(plan, removed, locked, examined.refused, dry_run)


def _require_sound(store: Store, examined: Examined, now: datetime, newest: str, max_age: timedelta) -> None:
    present = [v for v in examined.verified if v.time <= now + SKEW]
    if not present:
        raise RetentionError("nothing was removed: no backup verifies.", remedy=_why(examined))
    last = present[-1]
    if newest and last.run != newest:
        raise RetentionError(
            f"nothing was removed: the backup just made, {newest}, is not the newest that verifies.",
            remedy=_why(examined, newest),
        )
    if not newest and now - last.time > max_age:
        raise RetentionError(
            f"nothing was removed: the newest verified backup, {last.run}, is too old.",
            remedy="make backups run again first.",
        )
    _require_clocks(store, last, now)


def _why(examined: Examined, run: str = "") -> str:
    reasons = [f"{name}: {reason}" for name, reason in examined.refused if name == run or not run]
    return reasons[-1] if reasons else "find out who removed it, or whose clock is wrong."


def _require_clocks(store: Store, last: Verified, now: datetime) -> None:
    for whose, ahead in (("store", store.clock() - now), ("database", last.snapshot_at - last.time)):
        if abs(ahead) > SKEW:
            raise RetentionError(
                f"nothing was removed: the {whose}'s clock and this machine's are {abs(ahead)} apart.",
                remedy="set the clocks by NTP; then see which backups are dated wrong.",
            )


def _removed(
    store: Store, key_store: Store, trusted: Mapping[str, bytes], runs: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    removed: list[str] = []
    locked: list[str] = []
    for run in runs:
        try:
            _remove(store, key_store, trusted, run)
        except ObjectLocked:
            locked.append(run)
            continue
        except TenantproofError as error:
            done = f"; removed before: {', '.join(removed)}" if removed else ""
            raise RetentionError(f"{run} could not be removed: {error.message}{done}", remedy=error.remedy) from error
        removed.append(run)
    return tuple(removed), tuple(locked)


def _remove(store: Store, key_store: Store, trusted: Mapping[str, bytes], run: str) -> None:
    """Exactly what the manifest names, the manifest first: from then on it is no backup, whatever happens.

    A data object that is still locked stays, and is removed with what unfinished runs leave.
    """
    manifest = load_manifest(store, run, trusted)
    store.delete(manifest_name(run))
    keys = sorted({archive.key_object for archive in manifest.archives})
    for where, name in (*((store, pack.name) for pack in manifest.objects), *((key_store, key) for key in keys)):
        with contextlib.suppress(ObjectLocked):
            where.delete(name)
    with contextlib.suppress(ObjectLocked):
        store.delete(claim_name(run))
