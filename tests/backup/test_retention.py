"""Which backups retention keeps: over years of nights with gaps, and against stores that lie."""

import calendar
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_tenantproof.backup.examine import examine_all
from pytest_tenantproof.backup.manifest import manifest_name
from pytest_tenantproof.backup.retention import (
    Period,
    Policy,
    Retained,
    Tier,
    apply_retention,
    plan_retention,
)
from pytest_tenantproof.backup.runs import find_runs, load_manifest
from pytest_tenantproof.backup.store import LocalStore, ObjectLocked, open_store
from pytest_tenantproof.errors import RetentionError, StoreError
from tests.backup.support import Scene

START = datetime(2024, 1, 1, 2, tzinfo=UTC)
DEFAULT = Policy(30, 12, 12)

policies = st.builds(Policy, st.integers(0, 40), st.integers(0, 15), st.integers(0, 15))
# hours between one backup and the next: mostly a night, sometimes twice a day, or a gap of weeks
steps = st.lists(st.sampled_from((24, 24, 24, 24, 3, 25, 48, 24 * 9, 24 * 40)), min_size=1, max_size=400)


def nights(hours: Iterable[int]) -> list[tuple[str, datetime]]:
    at, found = START, []
    for number, gap in enumerate(hours):
        at += timedelta(hours=gap)
        found.append((f"run{number:04}", at))
    return found


def newest_by(backups: list[tuple[str, datetime]], key: str, count: int) -> set[str]:
    """The rule again, in other words: of each period the last, of the last `count` periods that have one."""
    last = {time.strftime(key): run for run, time in sorted(backups, key=lambda b: b[1])}
    return {last[period] for period in sorted(last)[-count:]} if count else set()


@settings(deadline=None, max_examples=150)
@given(steps, policies)
def test_exactly_the_newest_of_each_period_are_kept(hours: list[int], policy: Policy) -> None:
    backups = nights(hours)
    plan = plan_retention(backups, policy, backups[-1][1])
    expected = newest_by(backups, "%Y-%m-%d", policy.daily) | newest_by(backups, "%G-W%V", policy.weekly)
    expected |= newest_by(backups, "%Y-%m", policy.monthly) | {backups[-1][0]}
    assert set(plan.keep) == expected
    assert set(plan.remove) == {run for run, _ in backups} - expected
    assert len(plan.keep) <= policy.daily + policy.weekly + policy.monthly + 1


@settings(deadline=None, max_examples=60)
@given(steps, policies, st.randoms(use_true_random=False))
def test_order_of_listing_and_repetition_change_nothing(hours: list[int], policy: Policy, random: object) -> None:
    backups = nights(hours)
    shuffled = backups[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    now = backups[-1][1]
    plan = plan_retention(shuffled, policy, now)
    assert plan.remove == plan_retention(backups, policy, now).remove
    left = [(run, time) for run, time in backups if run in plan.keep]
    assert plan_retention(left, policy, now).remove == ()


def lived_through(backups: list[tuple[str, datetime]], policy: Policy) -> list[tuple[str, datetime]]:
    """What is there after retention ran behind every backup."""
    there: list[tuple[str, datetime]] = []
    for run, time in backups:
        there.append((run, time))
        plan = plan_retention(there, policy, time)
        there = [(r, t) for r, t in there if r in plan.keep]
    return there


@settings(deadline=None, max_examples=25)
@given(steps, st.builds(Policy, st.integers(1, 40), st.integers(0, 15), st.integers(0, 15)))
def test_running_it_nightly_loses_nothing_that_running_it_once_keeps(hours: list[int], policy: Policy) -> None:
    backups = nights(hours)
    assert {run for run, _ in lived_through(backups, policy)} == set(
        plan_retention(backups, policy, backups[-1][1]).keep
    )


@pytest.mark.long
@settings(deadline=None, max_examples=400)
@given(st.lists(st.sampled_from((24, 24, 24, 3, 48, 24 * 9, 24 * 40)), min_size=300, max_size=1500), policies)
def test_years_of_nights(hours: list[int], policy: Policy) -> None:
    backups = nights(hours)
    assume(policy.daily > 0)
    assert {run for run, _ in lived_through(backups, policy)} == set(
        plan_retention(backups, policy, backups[-1][1]).keep
    )


def test_two_years_of_nights_leave_a_month_of_days_a_quarter_of_weeks_and_a_year_of_months() -> None:
    backups = nights([24] * 730)
    kept = dict(lived_through(backups, DEFAULT))
    now = backups[-1][1]
    ages = sorted((now - time).days for time in kept.values())
    assert ages[:30] == list(range(30))
    assert 330 <= ages[-1] <= 366
    months = {(t.year, t.month) for t in kept.values()}
    assert len(months) == 12
    for year, month in months:
        last = max(t.day for t in kept.values() if (t.year, t.month) == (year, month))
        assert (year, month) == (now.year, now.month) or last == calendar.monthrange(year, month)[1]
    assert 40 <= len(kept) <= 54


def test_weeks_and_months_of_the_same_number_are_different_periods() -> None:
    """ISO week 2026-01 begins in 2025, and is not January 2026."""
    at = [datetime(2025, 12, 30, 2, tzinfo=UTC), datetime(2026, 1, 30, 2, tzinfo=UTC)]
    plan = plan_retention([("a", at[0]), ("b", at[1])], Policy(0, 2, 2), at[1])
    assert plan.keep["a"] == (Period(Tier.WEEKLY, 2026, 1), Period(Tier.MONTHLY, 2025, 12))
    assert Period(Tier.MONTHLY, 2026, 1) in plan.keep["b"]
    assert len({Period(Tier.WEEKLY, 2026, 1), Period(Tier.MONTHLY, 2026, 1), Period(Tier.DAILY, 2026, 1)}) == 3


@settings(deadline=None, max_examples=50)
@given(steps, policies, st.integers(2, 24 * 800))
def test_backups_of_the_future_are_neither_counted_nor_removed(hours: list[int], policy: Policy, ahead: int) -> None:
    backups = nights(hours)
    now = backups[-1][1]
    plan = plan_retention([*backups, ("future", now + timedelta(hours=ahead))], policy, now)
    assert plan.future == ("future",)
    assert plan == replace(plan_retention(backups, policy, now), future=("future",))


def test_days_are_utc_days() -> None:
    offset = datetime.fromisoformat("2026-03-01T00:30:00+02:00")
    plan = plan_retention([("a", offset)], Policy(1, 0, 0), offset)
    assert plan.keep["a"] == (Period(Tier.DAILY, 2026, 59),)


def test_a_negative_policy_is_refused() -> None:
    with pytest.raises(RetentionError, match="negative"):
        Policy(30, -1, 12)


# --- on a store -------------------------------------------------------------------------------------------


class Shelf:
    """Three backups of a small database in a folder, an hour apart by their names."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.now = scene, datetime.now(UTC)
        times = [self.now - timedelta(minutes=minutes) for minutes in (40, 20, 0)]
        self.runs = [scene.run(now=at).run for at in times]
        self.store = open_store(scene.store)

    def apply(self, policy: Policy = Policy(1, 0, 0), **more: object) -> Retained:  # noqa: B008 - frozen
        asked = {"target": "prod", "policy": policy, "now": self.now} | more
        store = asked.pop("store", self.store)
        return apply_retention(store, store, self.scene.keys, **asked)  # type: ignore[arg-type]

    def there(self) -> list[str]:
        return [run.id for run in find_runs(open_store(self.scene.store))]


@pytest.fixture
def shelf(scene: Scene) -> Shelf:
    return Shelf(scene)


def test_only_what_a_manifest_names_is_removed(shelf: Shelf) -> None:
    first = shelf.runs[0]
    foreign = (f"runs/{first}/notes.txt", "runs/readme.txt", "other/thing", f"keys/{first}/mine.json")
    for name in foreign:
        shelf.store.put(name, b"not ours")
    done = shelf.apply()
    assert set(done.removed) == set(shelf.runs[:2])
    assert {s.name for s in shelf.store.list() if shelf.runs[2] not in s.name} == {*foreign, "open_backup.py"}
    manifest = load_manifest(shelf.store, shelf.runs[2], shelf.scene.keys)
    assert all(shelf.store.head(pack.name) for pack in manifest.objects)


def test_a_dry_run_removes_nothing(shelf: Shelf) -> None:
    before = sorted(s.name for s in shelf.store.list())
    planned = shelf.apply(dry_run=True)
    assert set(planned.removed) == set(shelf.runs[:2])
    assert sorted(s.name for s in shelf.store.list()) == before


def test_the_last_verified_backup_stays_whatever_the_policy_says(shelf: Shelf) -> None:
    assert set(shelf.apply(Policy(0, 0, 0)).removed) == set(shelf.runs[:2])
    assert shelf.apply(Policy(0, 0, 0)).removed == ()
    assert shelf.there() == shelf.runs[2:]


@pytest.mark.parametrize("damage", ["manifest", "object", "truncated"])
def test_a_newest_that_does_not_verify_stops_all(shelf: Shelf, damage: str) -> None:
    newest = shelf.runs[2]
    manifest = load_manifest(shelf.store, newest, shelf.scene.keys)
    if damage == "manifest":
        shelf.store.put(manifest_name(newest), b"{}", replace=True)
    elif damage == "object":
        shelf.store.delete(manifest.objects[0].name)
    else:
        shelf.store.put(manifest.objects[0].name, b"short", replace=True)
    before = sorted(s.name for s in shelf.store.list())
    with pytest.raises(RetentionError, match="is not the newest that verifies"):
        shelf.apply(newest=newest)
    assert sorted(s.name for s in shelf.store.list()) == before
    kept = shelf.apply(Policy(9, 0, 0))
    assert [run for run, _ in kept.refused] == [newest]
    assert newest in shelf.there()


def test_unverified_backups_neither_count_nor_go(shelf: Shelf) -> None:
    shelf.store.put(manifest_name(shelf.runs[1]), b"{}", replace=True)
    done = shelf.apply()
    assert done.removed == (shelf.runs[0],)
    assert shelf.there() == shelf.runs[1:]


def test_backups_of_another_target_are_left_alone(shelf: Shelf) -> None:
    other = shelf.scene.run(target="other", now=shelf.now).run
    done = shelf.apply()
    assert set(done.removed) == set(shelf.runs[:2])
    assert other in shelf.there()


def test_without_backups_or_when_they_have_stopped_nothing_goes(shelf: Shelf) -> None:
    with pytest.raises(RetentionError, match="too old"):
        shelf.apply(now=shelf.now + timedelta(hours=30))
    with pytest.raises(RetentionError, match="no backup verifies"):
        shelf.apply(target="nobody")
    assert len(shelf.there()) == 3


class Odd(LocalStore):
    """A folder with one thing odd about it."""

    skew = timedelta()
    locked: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.skew

    def delete(self, name: str) -> None:
        if any(part in name for part in self.locked):
            raise ObjectLocked(f"{name} is locked.")
        if any(part in name for part in self.broken):
            raise StoreError(f"cannot delete {name}.", remedy="ask the provider.")
        super().delete(name)


def odd(shelf: Shelf, **more: object) -> Odd:
    assert isinstance(shelf.store, LocalStore)
    store = Odd(shelf.store.root)
    for name, value in more.items():
        setattr(store, name, value)
    return store


@pytest.mark.parametrize("skew", [timedelta(hours=2), timedelta(days=-400)])
def test_clocks_that_disagree_stop_all(shelf: Shelf, skew: timedelta) -> None:
    with pytest.raises(RetentionError, match="store's clock"):
        shelf.apply(store=odd(shelf, skew=skew))
    assert len(shelf.there()) == 3


def test_a_database_whose_clock_disagrees_stops_all(shelf: Shelf) -> None:
    wrong = shelf.scene.run(now=shelf.now - timedelta(hours=5)).run
    assert examine_all(shelf.store, shelf.scene.keys, "prod").verified[0].run == wrong
    for run in shelf.runs:
        shelf.store.delete(manifest_name(run))
    with pytest.raises(RetentionError, match="database's clock"):
        shelf.apply(newest=wrong)


def test_object_lock_is_respected_and_reported(shelf: Shelf) -> None:
    done = shelf.apply(store=odd(shelf, locked=(manifest_name(shelf.runs[0]),)))
    assert (done.removed, done.locked) == ((shelf.runs[1],), (shelf.runs[0],))
    assert shelf.apply(store=odd(shelf)).removed == (shelf.runs[0],)


def test_a_store_that_fails_is_an_error_that_says_what_went(shelf: Shelf) -> None:
    """The manifest goes first, so what is left looks like no backup, and is removed with the unfinished."""
    with pytest.raises(RetentionError, match=f"removed before: {shelf.runs[0]}") as caught:
        shelf.apply(store=odd(shelf, broken=(f"{shelf.runs[1]}/pack",)))
    assert caught.value.remedy == "ask the provider."
    left = {run.id: run.complete for run in find_runs(shelf.store)}
    assert left == {shelf.runs[1]: False, shelf.runs[2]: True}
    again = shelf.scene.run(now=shelf.now + timedelta(minutes=1))
    assert again.cleaned.runs == (shelf.runs[1],)
