"""Backups at fault, for `@falsified_by(given=...)`: what the control would be told on a bad day."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from pytest_tenantproof.backup.examine import Examined, Verified
from pytest_tenantproof.backup.store import Capabilities
from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.backup import BackupSettings
from pytest_tenantproof.target import TargetInfo

__all__ = ["LIVE", "OLD", "ONE", "SAFE", "UNSAFE", "faulty"]

OLD = Verified("20260101T000000Z-00000000", datetime.min, datetime(2026, 1, 1, tzinfo=UTC), "prod", "1", "", ())
SAFE = Capabilities("s3", True, False, True, "store.example.com")
UNSAFE = replace(SAFE, write_once=False, can_delete=True)
ONE = "tpbpub1:" + "B" * 42 + "A="
LIVE = TargetInfo("prod", "live", "18", "app", "1", "auditor", True, "")


def faulty(**facts: Any) -> dict[str, Any]:
    """Backups of a target in a store, with these facts about them."""
    known = {
        "settings": Settings(backup=BackupSettings(store="s3://bucket")),
        "target": "embedded",
        "store": SimpleNamespace(url="s3://bucket"),
        "key_store": SimpleNamespace(url="s3://keys"),
        "examined": Examined((OLD,), ()),
        "manifest": SimpleNamespace(run=OLD.run, tables=(), not_included=(), recipients=()),
        "capabilities": SAFE,
        "key_capabilities": SAFE,
    }
    return {"backups": SimpleNamespace(**(known | facts)), "target": LIVE}
