"""The shape of [tenantproof.drill]. Every field is a key; its docstring line is its documentation."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["DrillSettings"]


@dataclass(frozen=True, slots=True)
class DrillSettings:
    """[tenantproof.drill]"""

    source: str = ""
    """The target whose backups are rehearsed; default: the target of the run."""
    place: Literal["scratch", "target"] = "scratch"
    """scratch: a private server on this machine; target: a database beside the target's, dropped afterwards."""
    rpo_hours: float = 26.0
    """How old the newest backup may be: what is lost at most."""
    rto_minutes: float = 60.0
    """How long download, decryption, restore and comparison may take."""
