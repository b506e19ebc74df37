"""What is kept between runs: open causes and undelivered alerts. 0600, replaced whole; no address, no secret."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_tenantproof.errors import NotifyError, redact
from pytest_tenantproof.model import Severity
from pytest_tenantproof.notify.alert import Alert, Level
from pytest_tenantproof.notify.causes import Cause, Open

__all__ = ["Waiting", "locked", "outbox", "put", "read_open", "remove", "set_aside", "write_open"]

_OPEN, _OUTBOX = "open.json", "outbox"
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An alert that `channel` did not take: since when it waits, until when the server asked for patience, and why."""

    channel: str
    alert: Alert
    key: str
    since: datetime
    not_before: datetime
    why: str

    @property
    def file(self) -> str:
        """Alerts are sent in the order of their names; a later one of the same key takes an earlier one's place."""
        return f"{self.since:%Y%m%dT%H%M%S%fZ}-{self.key}.json"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One run at a time. Raises NotifyError where the folder cannot be used."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / _OUTBOX).mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise NotifyError(
            f"what was told cannot be kept in {folder}: {error.strerror}.",
            remedy="check permissions and free space, or set folder in [tenantproof.notify].",
        ) from error


def read_open(folder: Path) -> tuple[dict[str, Open], str]:
    """Open causes by fingerprint, and what is wrong with the file, "" normally. A damaged one is set aside:
    then every cause is new, and told once too often."""
    path = folder / _OPEN
    if not path.exists():
        return {}, ""
    try:
        entries = [_open_of(item) for item in json.loads(path.read_bytes())["open"]]
    except _DAMAGED:
        return {}, set_aside(path, "is damaged")
    return {entry.cause.fingerprint: entry for entry in entries}, ""


def _open_of(item: dict[str, Any]) -> Open:
    cause = Cause(str(item["target"]), str(item["what"]), str(item["object"]), Severity(item["severity"]))
    return Open(cause, _moment(item["since"]), _moment(item["told"]))


def write_open(folder: Path, held: Mapping[str, Open]) -> None:
    listed = [
        asdict(entry.cause) | {"since": entry.since.isoformat(), "told": entry.told.isoformat()}
        for entry in held.values()
    ]
    _replace(folder / _OPEN, {"schema": "tenantproof/alerts/1", "open": listed})


def outbox(folder: Path) -> tuple[list[tuple[Path, Waiting]], list[str]]:
    """What waits, oldest first, and what is wrong: a damaged file is set aside, never passed over in silence."""
    found, problems = [], []
    for path in sorted((folder / _OUTBOX).glob("*.json")):
        try:
            found.append((path, _waiting_of(json.loads(path.read_bytes()))))
        except _DAMAGED:
            problems.append(set_aside(path, "is damaged"))
    return found, problems


def _waiting_of(item: dict[str, Any]) -> Waiting:
    given = dict(item["alert"])
    given["level"] = Level(given["level"])
    given["severity"] = Severity(given["severity"]) if given["severity"] else None
    given["facts"] = tuple((str(name), str(value)) for name, value in given["facts"])
    times = _moment(item["since"]), _moment(item["not_before"])
    return Waiting(str(item["channel"]), Alert(**given), str(item["key"]), *times, str(item["why"]))


def put(folder: Path, waiting: Waiting) -> None:
    """Keeps it, in the place of an earlier one with the same key."""
    box = folder / _OUTBOX
    earlier = [path for path in box.glob(f"*-{waiting.key}.json") if path.name != waiting.file]
    _replace(box / waiting.file, {"schema": "tenantproof/outbox/1", **asdict(_clean(waiting))})
    for path in earlier:
        path.unlink()


def _clean(waiting: Waiting) -> Waiting:
    """As people would read it: what redaction would hide from them is not kept either."""
    alert = waiting.alert
    facts = tuple((redact(name), redact(value)) for name, value in alert.facts)
    title, text, remedy = map(redact, (alert.title, alert.text, alert.remedy))
    return replace(waiting, alert=replace(alert, facts=facts, title=title, text=text, remedy=remedy))


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def set_aside(path: Path, why: str) -> str:
    """Renames it so that it is not tried again, and says so."""
    kept = path.with_suffix(".aside")
    path.replace(kept)
    return f"{kept.name} {why}: read it, then remove it."


def _moment(text: Any) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _replace(path: Path, data: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    text = json.dumps(data, indent=1, sort_keys=True, default=_text)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text + "\n")
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
