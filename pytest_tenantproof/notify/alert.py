"""What is told, and the Protocol of those who tell it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pytest_tenantproof.errors import redact

__all__ = ["Alert", "Level", "Notifier"]


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

    def lines(self) -> list[str]:
        """The whole as plain text, passwords redacted."""
        named = (("target", self.target), ("run", self.run), *self.facts)
        listed = [f"{name}: {value}" for name, value in named if value]
        remedy = [f"what to do: {self.remedy}"] if self.remedy else []
        return [redact(line) for line in (self.text, *remedy, *listed)]


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
