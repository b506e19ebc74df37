"""What the canaries counted: once a run, by the worker that asks first. Nobody repeats a pass over large tables."""

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from pytest_tenantproof.canary import Level, Reading, Readings

__all__ = ["counted_once"]

_FILE = "canary.json"


def counted_once(folder: Path, count: Callable[[], Readings]) -> tuple[Readings, bool]:
    """The readings of the run whose folder it is, and whether they were counted by this call."""
    path = folder / _FILE
    with (folder / "canary.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_file():
            return _read(path), False
        found = count()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump(asdict(found) | {"at": found.at.isoformat()}, out)
    return found, True


def _read(path: Path) -> Readings:
    data = json.loads(path.read_bytes())
    taken = tuple(Reading(**item | {"level": Level(item["level"])}) for item in data["taken"])
    return Readings(taken, data["problems"], data["whole"], datetime.fromisoformat(data["at"]))
