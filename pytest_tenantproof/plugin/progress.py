"""A line on stderr, where that is a terminal, while a control takes long: what runs, how far, since when."""

import os
import threading
import time
from typing import Any

import pytest

__all__ = ["Progress", "watch"]

_FIRST_AFTER_S = 3.0
_THEN_EVERY_S = 10.0


def watch(config: pytest.Config, total: int) -> None:
    """Registers a Progress where somebody is looking at stderr."""
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    if capture is None:
        return
    with capture.global_and_fixture_disabled():
        if not os.isatty(2):
            return
        config.pluginmanager.register(Progress(os.dup(2), total), "tenantproof-progress")


class Progress:
    """Writes to the stderr that pytest captures for itself; a thread, because a control does not yield."""

    def __init__(self, output: int, total: int) -> None:
        self._output = output
        self._total = total
        self._done: set[str] = set()
        self._running: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def pytest_collection_finish(self) -> None:
        self._thread.start()

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._running[location[2]] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._running.pop(location[2], None)
        self._done.add(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._output)

    def _tick(self) -> None:
        due = _FIRST_AFTER_S
        while not self._ended.wait(0.2):
            oldest = min(self._running.copy().items(), key=lambda item: item[1], default=None)
            waited = time.monotonic() - oldest[1] if oldest else 0.0
            if oldest is None or waited < _FIRST_AFTER_S:
                due = _FIRST_AFTER_S
            elif waited >= due:
                due = waited + _THEN_EVERY_S
                line = f"\n{len(self._done)} of {self._total} controls; {oldest[0]}: {waited:.0f} s\n"
                os.write(self._output, line.encode())
