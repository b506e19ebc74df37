"""The shape of [tenantproof.canary]. Every field is a key; its docstring line is its documentation."""

from dataclasses import dataclass

__all__ = ["CanarySettings"]


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """[tenantproof.canary]: what is watched, and from which number on it warns and fails."""

    watermark_column: str = "created_at"
    """Column by which new rows are found between whole passes; tables without it are always counted whole."""
    whole_hours: float = 20.0
    """After how many hours every row is counted again, not just new ones."""
    onboarding_table: str = "public.onboarding_transactions"
    """Table of onboarding transactions; empty: none is watched."""
    onboarding_state_column: str = "status"
    """Column that says how an onboarding ended."""
    onboarding_failed: str = "failed"
    """The value of a failed one. Table, columns and value must also stand in tenantproof.watched_states."""
    onboarding_time_column: str = "started_at"
    """When it began."""
    onboarding_hours: float = 24.0
    """The window in which failures count."""
    onboarding_warn: int = 1
    """From how many failed onboardings on it warns."""
    onboarding_fail: int = 5
    """From how many on it fails."""
    delete_hours: int = 1
    """The window in which deletions are added up, by tenant and table."""
    delete_weeks: int = 4
    """With the same hours of how many past weeks it is compared."""
    delete_floor: int = 100
    """Fewer deletions than this are never abnormal."""
    delete_warn: float = 5.0
    """How many spreads above the median of past weeks warn."""
    delete_fail: float = 10.0
    """How many fail."""
    idle_warn_s: float = 300.0
    """Seconds a transaction may idle, holding back cleaning up, before it warns."""
    idle_fail_s: float = 3600.0
    """And before it fails."""
    backup_warn_hours: float = 26.0
    """Age of the newest verified backup that warns."""
    backup_fail_hours: float = 50.0
    """And that fails."""
    drill_warn_hours: float = 30.0
    """Age of the newest successful restore drill that warns."""
    drill_fail_hours: float = 60.0
    """And that fails."""
