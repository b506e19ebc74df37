"""Takes the readings, by functions of the database that give numbers only (migrations/004_canaries.sql)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import psycopg

from pytest_tenantproof.canary.paths import Path, paths
from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.config.canary import CanarySettings

__all__ = ["Level", "Reading", "Readings", "level_of", "measure"]

_OVERLAP = timedelta(hours=1)
_FLUSHED = timedelta(minutes=5)
"""By when statistics surely count what was written."""
_TRUNCATED = 10**9
"""What 004_canaries.sql counts a TRUNCATE as, which tells no number."""
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_WRITTEN = "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_catalog.pg_stat_user_tables WHERE relid = %s::regclass"
_NAMED = "%s::regclass, %s::name[], %s::regclass, %s::name[]"
_NEWER = "%s::name, %s::timestamptz"
_STRAYS = f"SELECT tenantproof.count_strays({_NAMED}, {_NEWER})"
_ORPHANS = f"SELECT tenantproof.count_orphans({_NAMED}, {_NEWER})"
_MISALIGNED = f"SELECT tenantproof.count_misaligned({_NAMED}, %s::name[], %s::name[], {_NEWER})"


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Reading:
    """One number. `canary` is the control's id."""

    canary: str
    object: str
    value: float
    level: Level
    detail: str


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything read in one run. `problems`: canaries that could not look, and why. `whole`: every row counted."""

    taken: tuple[Reading, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    whole: bool = True
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def of(self, canary: str) -> Iterator[Reading]:
        return (reading for reading in self.taken if reading.canary == canary)


def level_of(value: float, warn: float, fail: float) -> Level:
    """fail at or above `fail`, warn at or above `warn`."""
    return Level.FAIL if value >= fail else Level.WARN if value >= warn else Level.OK


def measure(connection: psycopg.Connection[Any], catalog: Catalog, declared: Catalog | None, target: str) -> Readings:
    """All readings, each in a savepoint of the session's transaction: one that fails says why and hides no other."""
    return _Meter(connection, catalog, declared, target).read()


class _Meter:
    def __init__(
        self, connection: psycopg.Connection[Any], catalog: Catalog, declared: Catalog | None, target: str
    ) -> None:
        self.connection, self.catalog, self.target = connection, catalog, target
        self.limits: CanarySettings = catalog.settings.canary
        self.paths = paths(catalog, declared)
        self.problems: dict[str, str] = {}
        self.taken: list[Reading] = []
        self.strays: dict[Path, bool] = {}

    def read(self) -> Readings:
        now = self._one("SELECT pg_catalog.now()")  # the clock that dates the rows
        since = self._since(now)
        steps: tuple[tuple[str, Callable[[], Iterator[Reading]]], ...] = (
            ("TP801", lambda: self._orphans(since)),
            ("TP802", lambda: self._misaligned(since)),
            ("TP803", self._without_tenant),
            ("TP804", lambda: self._onboarding(now)),
            ("TP805", self._deletions),
            ("TP806", self._gaps),
            ("TP807", self._backups),
            ("TP808", self._drills),
            ("TP811", self._idle),
        )
        for canary, step in steps:
            self._take(canary, step)
        return Readings(tuple(self.taken), self.problems, since is None, now)

    def _take(self, canary: str, step: Callable[[], Iterator[Reading]]) -> None:
        try:
            with self.connection.transaction():
                self.taken += list(step())
        except psycopg.errors.QueryCanceled:
            self.problems[canary] = "counting took longer than the session's statement_timeout"
        except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
            self.problems[canary] = "the counting functions are missing: apply migrations/004_canaries.sql"
        except psycopg.errors.InsufficientPrivilege:
            self.problems[canary] = "this role may not count: GRANT tenantproof_auditor to it"
        except psycopg.Error as error:
            # TP014 is our own, and names a table and nothing else.
            said = error.diag.message_primary if error.sqlstate == "TP014" else ""
            self.problems[canary] = said or f"counting failed ({error.sqlstate or type(error).__name__})"

    def _one(self, sql: str, *values: Any) -> Any:
        row = self.connection.execute(sql.encode(), values).fetchone()
        return row[0] if row else None

    def _since(self, now: datetime) -> datetime | None:
        """From when on rows are new; None for a whole pass, also where nobody knows of an earlier one."""
        try:
            with self.connection.transaction():
                row = self.connection.execute("SELECT * FROM tenantproof.last_canary(%s)", [self.target]).fetchone()
        except psycopg.Error:
            return None
        if not row or row[0] is None or row[1] is None or now - row[1] > timedelta(hours=self.limits.whole_hours):
            return None
        last: datetime = row[0]
        return last - _OVERLAP

    def _orphans(self, since: datetime | None) -> Iterator[Reading]:
        """One look along each reference; only where a row strays is it counted what it is."""
        for path in self.paths:
            count = self._along(_ORPHANS, path, since, path.pairs) if self._stray(path, since) else 0
            yield _zero("TP801", _name(path), count, "rows whose parent is gone")

    def _misaligned(self, since: datetime | None) -> Iterator[Reading]:
        for path in self.paths:
            if path.same:
                count = self._along(_MISALIGNED, path, since, path.pairs, path.same) if self._stray(path, since) else 0
                yield _zero("TP802", _name(path), count, "rows that belong to another tenant than their parent")

    def _stray(self, path: Path, since: datetime | None) -> bool:
        if path not in self.strays:
            self.strays[path] = self._along(_STRAYS, path, since, (*path.same, *path.pairs)) > 0
        return self.strays[path]

    def _along(self, sql: str, path: Path, since: datetime | None, *pairs: tuple[tuple[str, str], ...]) -> int:
        """Asks a counting function for the rows of a reference; `pairs` are its columns, child's and parent's."""
        own, theirs, *more = [list(names) for each in pairs for names in zip(*each, strict=True)]
        newer = (path.since, since) if path.since and since else (None, None)
        found: int = self._one(sql, path.child, own, path.parent, theirs, *more, *newer)
        return found

    def _without_tenant(self) -> Iterator[Reading]:
        for table in self.catalog.tenant_tables:
            column = self.catalog.tenant_column(table)
            if column is None or table.is_partition:
                continue
            if column.not_null and column.not_null_valid:
                yield _zero("TP803", table.name, 0, "rows without a tenant")
                continue
            count = self._one("SELECT tenantproof.count_nulls(%s::regclass, %s::name)", table.name, column.name)
            yield _zero("TP803", table.name, count, "rows without a tenant")

    def _onboarding(self, now: datetime) -> Iterator[Reading]:
        limits = self.limits
        if not limits.onboarding_table or limits.onboarding_table not in self.catalog.tables:
            return
        since = now - timedelta(hours=limits.onboarding_hours)
        sql = "SELECT tenantproof.count_failed(%s::regclass, %s::name, %s, %s::name, %s::timestamptz)"
        names = (limits.onboarding_state_column, limits.onboarding_failed, limits.onboarding_time_column)
        count = self._one(sql, limits.onboarding_table, *names, since)
        level = level_of(count, limits.onboarding_warn, limits.onboarding_fail)
        text = f"{count} onboardings failed in {limits.onboarding_hours:g} hours"
        yield Reading("TP804", limits.onboarding_table, count, level, text)

    def _deletions(self) -> Iterator[Reading]:
        limits, audit = self.limits, self.catalog.audit_tables
        if not audit:
            return
        rows = self.connection.execute(
            "SELECT * FROM tenantproof.delete_volumes(%s, %s)", [limits.delete_hours, limits.delete_weeks]
        )
        for table, deleted, usual, spread in rows:
            # Weeks that are all alike have no spread: a tenth of the usual number is noise.
            over = (deleted - usual) / max(spread, usual / 10, 1.0)
            level = level_of(over, limits.delete_warn, limits.delete_fail)
            level = level if deleted >= limits.delete_floor else Level.OK
            lost = "every tenant lost all rows" if deleted >= _TRUNCATED else f"one tenant lost {deleted} rows"
            text = f"{lost} in {limits.delete_hours} h; usual at this time are {usual:g}"
            yield Reading("TP805", table, deleted, level, text)

    def _gaps(self) -> Iterator[Reading]:
        """What statistics count since the last recorded run, against events since then; without one, since ever."""
        if not self.catalog.audit_tables:
            return
        rows = self.connection.execute("SELECT * FROM tenantproof.last_readings(%s, 'TP806')", [self.target])
        before = {name: (value, at - _FLUSHED) for name, value, at in rows}
        for table in self.catalog.tenant_tables:
            if table.kind != "table" or table.is_partition:
                continue
            written = float(self._one(_WRITTEN, table.name) or 0)
            known, since = before.get(table.name, (0.0, _EVER))
            if written < known:  # statistics were reset
                known, since = 0.0, _EVER
            schema, _, name = table.name.partition(".")
            names = (schema.strip('"'), name.strip('"'), since)
            silent = written > known and not self._one("SELECT tenantproof.count_events(%s, %s, %s)", *names)
            level = Level.WARN if silent else Level.OK
            text = f"{written - known:.0f} rows were written, and no event says so"
            yield Reading("TP806", table.name, written, level, text)

    def _backups(self) -> Iterator[Reading]:
        limits, where = self.limits, "public.backup_runs"
        warn, fail = limits.backup_warn_hours, limits.backup_fail_hours
        yield from self._age("TP807", where, "tenantproof.last_backup_hours", warn, fail, "verified backup")

    def _drills(self) -> Iterator[Reading]:
        limits, where = self.limits, "public.restore_drills"
        warn, fail = limits.drill_warn_hours, limits.drill_fail_hours
        yield from self._age("TP808", where, "tenantproof.last_drill_hours", warn, fail, "successful restore drill")

    def _age(self, canary: str, where: str, function: str, warn: float, fail: float, what: str) -> Iterator[Reading]:
        if where not in self.catalog.tables:
            return
        hours = self._one(f"SELECT {function}(%s)", self.target)
        if hours is None:
            self.problems[canary] = f"no {what} of this target is recorded"
            return
        yield Reading(canary, where, hours, level_of(hours, warn, fail), f"the newest {what} is {hours:.0f} hours old")

    def _idle(self) -> Iterator[Reading]:
        seconds = self._one("SELECT tenantproof.oldest_idle_seconds()")
        if seconds is None:
            self.problems["TP811"] = "tenantproof_counter may not read other sessions: GRANT pg_read_all_stats to it"
            return
        level = level_of(seconds, self.limits.idle_warn_s, self.limits.idle_fail_s)
        text = f"a transaction has been idle for {seconds:.0f} s and holds back cleaning up"
        yield Reading("TP811", "pg_stat_activity", seconds, level, text)


def _zero(canary: str, name: str, count: int, what: str) -> Reading:
    return Reading(canary, name, count, Level.FAIL if count else Level.OK, f"{count} {what}")


def _name(path: Path) -> str:
    return f"{path.child}.{path.pairs[0][0]}"
