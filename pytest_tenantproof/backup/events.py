"""How a backup fails, by stage, so that each stage can raise its own alert."""

from typing import Literal

import psycopg

from pytest_tenantproof.errors import (
    BackupError,
    FormatError,
    RetentionError,
    StoreError,
    TenantproofError,
)

__all__ = ["BackupFailed", "Stage", "failure", "stage_of"]

Stage = Literal["backup", "upload", "encryption", "retention"]

_DATABASE = {
    "42501": "grant the backup role SELECT on it (pg_read_all_data) and BYPASSRLS, or exclude it.",
    "55P03": "find what holds the table exclusively (pg_locks), or raise lock_timeout_s.",
    "57014": "raise max_minutes, or find what slows the database down.",
    "25P03": "raise idle_in_transaction_session_timeout for the backup role.",
    "22023": "the snapshot is gone because the leading session ended; run again.",
}


class BackupFailed(BackupError):
    """A run failed at `stage`; nothing of it counts as a backup. `run` is its id."""

    def __init__(self, stage: Stage, run: str, message: str, *, remedy: str = "") -> None:
        self.stage: Stage = stage
        self.run = run
        self.detail = message
        super().__init__(f"backup {run}: {stage}: {message}", remedy=remedy or "see the message and run again.")


def stage_of(error: BaseException) -> Stage:
    if isinstance(error, RetentionError):
        return "retention"
    if isinstance(error, StoreError):
        return "upload"
    return "encryption" if isinstance(error, FormatError) else "backup"


def failure(error: Exception, run: str, where: str = "") -> BackupFailed:
    """Any error as a BackupFailed. Of a database error only its class is told: its text may hold row content."""
    if isinstance(error, BackupFailed):
        return error
    if isinstance(error, TenantproofError):
        return BackupFailed(stage_of(error), run, error.message, remedy=error.remedy)
    if isinstance(error, psycopg.Error):
        state = error.sqlstate or "connection lost"
        text = f"{where + ': ' if where else ''}{type(error).__name__} ({state})."
        remedy = _DATABASE.get(state, "check the database's log and that it is up; run again.")
        return BackupFailed("backup", run, text, remedy=remedy)
    return BackupFailed("backup", run, f"{type(error).__name__}.", remedy="report this with the run id.")
