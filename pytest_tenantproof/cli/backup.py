"""backup, retention, erase: what is done to a target's backups."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_tenantproof.cli.base import Answer, Verb, settings_of, target_arguments
from pytest_tenantproof.cli.progress import Progress
from pytest_tenantproof.config import Settings, environment_name
from pytest_tenantproof.errors import RetentionError, SigningKeyError, TenantproofError

if TYPE_CHECKING:
    from pytest_tenantproof.attest.sign import Signer
    from pytest_tenantproof.backup import BackupRequest, BackupResult, Store
    from pytest_tenantproof.backup.retention import Retained
    from pytest_tenantproof.notify import Alert, Cause

__all__ = ["VERBS"]


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of a verb: whom to tell and where to record what becomes of it."""

    settings: Settings
    target: str
    run: str
    began: datetime
    quiet: bool

    @property
    def writer_dsn(self) -> str:
        return os.environ.get(environment_name(self.target, "WRITER_DSN"), "").strip()

    def failed(self, error: BaseException) -> None:
        """Alerts and records a failure. What cannot be told or recorded is said on standard error."""
        from pytest_tenantproof.backup.events import BackupFailed, stage_of
        from pytest_tenantproof.model import Severity
        from pytest_tenantproof.notify import Alert, Cause, Level

        stage = error.stage if isinstance(error, BackupFailed) else stage_of(error)
        text, remedy = f"it was ended by {type(error).__name__}.", "see the log and run it again."
        if isinstance(error, TenantproofError):
            text, remedy = error.message, error.remedy
        severity = Severity.MEDIUM if stage == "retention" else Severity.HIGH
        alert = Alert(
            stage, Level.FAIL, f"{self.target}: {stage} failed", text, self.target, self.run, remedy, (), severity
        )
        said = self.say(alert, (Cause(self.target, stage, "", severity),))
        said += self.record({"outcome": "failed", "stage": stage, "error": text}) if stage != "retention" else []
        sys.stderr.write("".join(f"tenantproof: {line}\n" for line in said))

    def done(self, text: str, *settled: str, well: bool = True) -> list[str]:
        """A word to people when what they were told of is `settled`, and with `well` the dead-man's ping; what went
        wrong with either."""
        from pytest_tenantproof.notify import Alert, Level

        return self.say(
            Alert("backup", Level.OK, f"{self.target}: done", text, self.target, self.run), (), settled, well
        )

    def say(
        self, alert: "Alert", red: "tuple[Cause, ...]" = (), settled: tuple[str, ...] = (), well: bool = False
    ) -> list[str]:
        from pytest_tenantproof.notify import News, open_desk

        if self.quiet:
            return []
        news = News(self.target, red, lambda cause: cause.what in settled, lambda _: alert, well=well)
        try:
            return [delivery.told for delivery in open_desk(self.settings, "backup").tell(news) if delivery.problem]
        except TenantproofError as error:
            return [str(error)]

    def record(self, row: dict[str, Any]) -> list[str]:
        """Adds a row to backup_runs; what went wrong with it."""
        from pytest_tenantproof.backup.record import record_backup

        common = {"run": self.run, "target": self.target, "started_at": self.began, "finished_at": datetime.now(UTC)}
        try:
            if self.writer_dsn and not self.quiet:
                record_backup(self.writer_dsn, common | row)
        except TenantproofError as error:
            return [str(error)]
        return []


@contextlib.contextmanager
def _watched(job: _Job) -> Iterator[None]:
    """Whatever ends the work, an ordinary termination signal too, is told."""

    def stop(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException as error:
        job.failed(error)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _signer() -> "Signer":
    from pytest_tenantproof.attest import keys

    signer = keys.load_signer()
    if signer is None:
        raise SigningKeyError(
            "backups are signed, and the environment names no signing key.",
            remedy=f"run `tenantproof keys new` and set {keys.KEY_FILE_VARIABLE} to the .key file.",
        )
    return signer


def _stores(settings: Settings, target: str) -> tuple["Store", "Store"]:
    from pytest_tenantproof.backup import key_store_spec, open_store, store_spec

    return (
        open_store(store_spec(settings.backup, target, settings.root)),
        open_store(key_store_spec(settings.backup, target, settings.root)),
    )


def _job(options: argparse.Namespace) -> _Job:
    from pytest_tenantproof.backup.run import new_run_id

    settings, now = settings_of(options), datetime.now(UTC)
    settings.target(options.target)
    return _Job(settings, options.target, new_run_id(now), now, options.dry_run)


def _backup(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.backup.run import run_backup

    job = _job(options)
    with _watched(job):
        request = _request(job)
        result = run_backup(request)
        retained, trouble = (None, None) if options.no_retention else _retained(job, result)
    row = result.row(request.store.url) | {"retention_removed": len(retained.removed) if retained else 0}
    problems = job.record(row)
    if trouble is not None and not job.quiet:
        raise trouble
    lines = _told(result, retained) + ([f"retention would fail: {trouble}"] if trouble else [])
    settled = ("backup", "upload", "encryption", *(["retention"] if retained else []))
    problems += job.done(lines[0], *settled)
    return (1 if problems else 0), _answer(result, retained, problems), lines + problems


def _request(job: _Job) -> "BackupRequest":
    from pytest_tenantproof.backup import BackupRequest, key_store_spec, store_spec

    settings, target = job.settings, job.target
    own = os.environ.get(environment_name(target, "BACKUP_DSN"), "").strip()
    dsn = own or settings.dsn(target)
    signer = _signer()
    return BackupRequest(
        target=target,
        dsn=dsn,
        settings=settings,
        store=store_spec(settings.backup, target, settings.root),
        key_store=key_store_spec(settings.backup, target, settings.root),
        signer=signer,
        now=job.began,
        run=job.run,
        dry_run=job.quiet,
        progress=Progress(f"backing up {target}"),
    )


def _retained(job: _Job, result: "BackupResult") -> tuple["Retained | None", RetentionError | None]:
    """Retention's failure is told by itself; the backup that was made stays made."""
    try:
        return _retention_of(job, newest="" if result.dry_run else result.run, dry_run=result.dry_run), None
    except RetentionError as error:
        if not result.dry_run:
            job.failed(error)
        return None, error


def _retention_of(job: _Job, *, newest: str, dry_run: bool = False) -> "Retained":
    from pytest_tenantproof.backup.retention import Policy, apply_retention
    from pytest_tenantproof.backup.trust import trusted_keys

    backup = job.settings.backup
    store, key_store = _stores(job.settings, job.target)
    with contextlib.closing(store), contextlib.closing(key_store):
        return apply_retention(
            store,
            key_store,
            trusted_keys(job.settings),
            target=job.target,
            policy=Policy(backup.daily, backup.weekly, backup.monthly),
            now=datetime.now(UTC),
            newest=newest,
            max_age=timedelta(hours=backup.max_age_hours),
            dry_run=dry_run,
        )


def _told(result: "BackupResult", retained: "Retained | None") -> list[str]:
    m = result.manifest
    what = f"{len(m.tables)} tables, {len(m.tenants)} tenants, {m.rows()} rows, {result.stored_bytes} bytes"
    lines = [f"backup {result.run}: {what}" + (" (dry run: nothing was kept)" if result.dry_run else ", verified")]
    lines += [f"not included: {entry}" for entry in m.not_included]
    lines += [f"removed what was left of {run}" for run in result.cleaned.runs]
    return lines + (_retention_lines(retained) if retained else [])


def _retention_lines(retained: "Retained") -> list[str]:
    word = "would remove" if retained.dry_run else "removed"
    lines = [f"kept {run}: {', '.join(map(str, periods))}" for run, periods in retained.plan.keep.items()]
    lines += [f"{word} {run}" for run in retained.removed]
    lines += [f"locked, for now kept: {run}" for run in retained.locked]
    lines += [f"dated in the future, left alone: {run}" for run in retained.plan.future]
    return lines + [f"not verified, left alone: {run}: {reason}" for run, reason in retained.refused]


def _answer(result: "BackupResult", retained: "Retained | None", problems: list[str]) -> dict[str, Any]:
    m = result.manifest
    return {
        "run": result.run,
        "target": m.target,
        "dry_run": result.dry_run,
        "manifest_sha256": result.manifest_sha256,
        "tables": len(m.tables),
        "tenants": len(m.tenants),
        "rows": m.rows(),
        "bytes": result.stored_bytes,
        "not_included": m.not_included,
        "cleaned": result.cleaned.runs,
        "retention": _retention_answer(retained) if retained else None,
        "problems": problems,
    }


def _retention_answer(retained: "Retained") -> dict[str, Any]:
    return {
        "kept": {run: list(map(str, periods)) for run, periods in retained.plan.keep.items()},
        "removed": retained.removed,
        "locked": retained.locked,
        "future": retained.plan.future,
        "refused": dict(retained.refused),
        "dry_run": retained.dry_run,
    }


def _retention(options: argparse.Namespace) -> Answer:
    job = _job(options)
    with _watched(job):
        retained = _retention_of(job, newest="", dry_run=options.dry_run)
    lines = _retention_lines(retained)
    problems = job.done("retention was applied", "retention", well=False)
    return (1 if problems else 0), _retention_answer(retained) | {"problems": problems}, lines + problems


def _erase(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.backup.erasure import erase_tenant, runs_with_key
    from pytest_tenantproof.backup.trust import trusted_keys

    settings, signer = settings_of(options), _signer()
    settings.target(options.target)
    store, key_store = _stores(settings, options.target)
    with contextlib.closing(store), contextlib.closing(key_store):
        if not options.apply:
            held = runs_with_key(key_store, options.tenant)
            lines = [f"would destroy the key of tenant {options.tenant} in {run}" for run in held]
            return 0, {"tenant": options.tenant, "runs": held, "applied": False}, [*lines, "nothing done: add --apply"]
        trusted = trusted_keys(settings, signer)
        done = erase_tenant(store, key_store, options.tenant, signer=signer, trusted=trusted, now=datetime.now(UTC))
    lines = [f"destroyed the key of tenant {done.tenant} in {run}" for run in done.runs]
    lines += [f"on the erasure list as {done.entry}", "its rows in the database are yours to delete"]
    return 0, {"tenant": done.tenant, "runs": done.runs, "entry": done.entry, "applied": True}, lines


def _backup_arguments(parser: argparse.ArgumentParser) -> None:
    _retention_arguments(parser)
    parser.add_argument("--no-retention", action="store_true", help="remove nothing: `retention` runs elsewhere")


def _retention_arguments(parser: argparse.ArgumentParser) -> None:
    target_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="do everything but upload and delete")


def _erase_arguments(parser: argparse.ArgumentParser) -> None:
    target_arguments(parser)
    parser.add_argument("--tenant", required=True, metavar="ID", help="whose keys to destroy, in every backup")
    parser.add_argument("--apply", action="store_true", help="do it; without this it is only shown")


VERBS = {
    "backup": Verb(
        "one encrypted, uploaded, verified backup; then retention",
        "tenantproof backup --target prod",
        _backup,
        _backup_arguments,
    ),
    "retention": Verb(
        "remove the backups that no day, week or month keeps",
        "tenantproof retention --target prod --dry-run",
        _retention,
        _retention_arguments,
    ),
    "erase": Verb(
        "make one tenant unreadable in all backups",
        "tenantproof erase --target prod --tenant 6f1c... --apply",
        _erase,
        _erase_arguments,
    ),
}
