"""The shape of [tenantproof.timestamp]. Every field is a key; its docstring line is its documentation."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["TimestampSettings"]


@dataclass(frozen=True, slots=True)
class TimestampSettings:
    """[tenantproof.timestamp]: trusted time from an RFC 3161 authority."""

    url: str = ""
    """URL of the authority; empty: no trusted time."""
    root: str = ""
    """PEM file of its pinned root certificate(s), relative to the config file."""
    policy: Literal["required", "optional"] = "required"
    """required: a run without a timestamp writes no bundle; optional: the report says that it has none."""
    timeout_s: float = 10.0
    """How long to wait for an answer, in seconds."""
    max_skew_s: float = 30.0
    """By how much local, database and trusted clocks may differ, in seconds."""
