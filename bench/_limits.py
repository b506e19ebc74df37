"""Figures beside their limits: what is exceeded is said, and makes a benchmark end with 1."""

import sys

__all__ = ["Limits"]


class Limits:
    """Prints each figure as soon as it is known, and remembers those beyond their limit."""

    def __init__(self) -> None:
        self.exceeded: list[str] = []

    def at_most(self, what: str, value: float, limit: float, unit: str = "") -> None:
        self._said(what, value, f"at most {limit:g}", value <= limit, unit)

    def at_least(self, what: str, value: float, limit: float, unit: str = "") -> None:
        self._said(what, value, f"at least {limit:g}", value >= limit, unit)

    def _said(self, what: str, value: float, limit: str, good: bool, unit: str) -> None:
        if not good:
            self.exceeded.append(what)
        sys.stdout.write(f"{what}: {value:.2f}{unit} ({limit}){'' if good else '  EXCEEDED'}\n")
        sys.stdout.flush()

    def status(self) -> int:
        """The exit status: 1 where a limit was exceeded."""
        if self.exceeded:
            sys.stderr.write(f"exceeded: {'; '.join(self.exceeded)}\n")
        return int(bool(self.exceeded))
