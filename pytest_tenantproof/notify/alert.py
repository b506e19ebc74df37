"""What is told, and the Protocol of those who tell it."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pytest_tenantproof.config.notify import PROVEN, Route
from pytest_tenantproof.errors import redact
from pytest_tenantproof.model import Severity

__all__ = ["Alert", "Level", "Notifier", "plain", "wanted"]


class Level(StrEnum):
    """`ok` goes to dead-man's pings alone; people hear of the others. `info` is good news for people."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Alert:
    """One message for people: what happened to which target, and what to do about it.

    `kind` names the cause and stays stable ("backup", "upload", "encryption", "retention", ...), `run` is the
    id to look for in logs. `facts` are counts, ids and digests: no secret, and never a row's content.
    """

    kind: str
    level: Level
    title: str
    text: str
    target: str = ""
    run: str = ""
    remedy: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    severity: Severity | None = None
    """Of the worst cause; None where nothing is wrong."""

    def lines(self) -> list[str]:
        """The whole as plain text, passwords redacted. What is one fact stays one line."""
        named = (("target", self.target), ("run", self.run), *self.facts)
        listed = [f"{name}: {value}" for name, value in named if value]
        remedy = [f"what to do: {self.remedy}"] if self.remedy else []
        return [plain(line) for line in (self.text, *remedy, *listed)]


def plain(text: str) -> str:
    """One line without passwords, control characters, or marks that turn the direction of text.

    Names of database objects are whatever their makers wrote.
    """
    return "".join(c if c.isprintable() else " " for c in redact(text))


def wanted(alert: Alert, routes: Collection[Route]) -> bool:
    """Whether people on a channel with these routes hear of it. What is wrong and has no severity goes everywhere."""
    if alert.level is Level.OK:
        return False
    if alert.severity is not None:
        return alert.severity.value in routes
    return alert.level is not Level.INFO or PROVEN in routes


class Notifier(Protocol):
    """One way to tell. `name` says which, without its address."""

    @property
    def name(self) -> str: ...

    def wants(self, alert: Alert) -> bool:
        """Whether alerts of this level go this way."""
        ...

    def send(self, alert: Alert) -> None:
        """Delivers, or raises NotifyError, whose text holds no address with a secret in it."""
        ...
