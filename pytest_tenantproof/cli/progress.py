"""A progress bar, where somebody is looking."""

import sys
import time

__all__ = ["Progress"]

_WIDTH = 30
_EVERY = 0.1


class Progress:
    """Call it with (done, whole). Draws on standard error, and only when that is a terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._on = sys.stderr.isatty()
        self._last = 0.0
        self._begun = time.monotonic()

    def __call__(self, done: int, whole: int) -> None:
        now = time.monotonic()
        if not self._on or (done < whole and now - self._last < _EVERY):
            return
        self._last = now
        share = min(done / whole, 1.0) if whole else 1.0
        bar = "#" * round(share * _WIDTH)
        end = "\n" if share >= 1 else ""
        sys.stderr.write(f"\r{self._label} [{bar:<{_WIDTH}}] {share:4.0%} {now - self._begun:4.0f} s{end}")
        sys.stderr.flush()
