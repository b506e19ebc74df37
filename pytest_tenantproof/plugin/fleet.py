"""--evidence=A,B,C: many targets in one session. Each target is a test, so pytest-xdist spreads them.

A target's run is a process of its own with a bundle of its own: one that crashes takes no other with it. The
controller signs one roll-up over all bundles.
"""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof.attest import keys, rollup
from pytest_tenantproof.attest.bundle import bundles
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import TenantproofError, UsageError

__all__ = ["FleetPlugin", "split_targets"]

_WORDS = {0: "proven", 1: "failed", 2: "not proven", 3: "no evidence was written", 4: "the call is wrong"}
_OWN_PLUGINS = ("no:terminal", "no:cacheprovider")
_ORDER = (3, 4, 2, 1, 0)


def split_targets(option: str) -> tuple[str, ...]:
    """The targets of --evidence. Raises UsageError for an empty or double name."""
    names = tuple(name.strip() for name in option.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise UsageError(f"--evidence={option} names no target, or one twice.", remedy="list each target once.")
    return names


class TargetItem(pytest.Item):
    """The whole evidence run of one target."""

    def __init__(self, *, target: str, command: tuple[str, ...], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.target, self.command = target, command
        self.status = 3

    def runtest(self) -> None:
        done = subprocess.run(self.command, capture_output=True, text=True, check=False)
        self.status = done.returncode if done.returncode in _WORDS else 3
        self.add_report_section("call", "evidence run", done.stdout + done.stderr)
        self.user_properties.append(("tenantproof_status", self.status))
        if self.status:
            raise TargetFailed(f"{self.target}: {_WORDS[self.status]}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]  # without the style that pytest never gives
        return str(excinfo.value) if isinstance(excinfo.value, TargetFailed) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"evidence of {self.target}"


class TargetFailed(Exception):
    """A target is not proven; its own output says why."""


class FleetPlugin:
    """Collects a test a target in place of the controls, and rolls their bundles up."""

    def __init__(self, config: pytest.Config, settings: Settings, targets: tuple[str, ...]) -> None:
        self.config, self.settings, self.targets = config, settings, targets
        self.root = Path(config.invocation_params.dir, config.getoption("--evidence-dir"))
        self.controller = not hasattr(config, "workerinput")
        self.before = {target: self._bundles(target) for target in targets}
        # -m selects the controls of each target's run, not the targets. Workers get the options as they are now.
        self.expression = str(getattr(config.option, "fleet_markexpr", config.getoption("markexpr")) or "")
        config.option.fleet_markexpr, config.option.markexpr = self.expression, ""
        self.statuses: dict[str, int] = {}
        self.lines: list[str] = []

    def _bundles(self, target: str) -> frozenset[str]:
        return frozenset(path.name for path in bundles(self.root / target))

    def pytest_collection(self, session: pytest.Session) -> bool:
        """The session's only items are the targets."""
        session.items = list(self._items(session))
        session.testscollected = len(session.items)
        self.config.hook.pytest_collection_modifyitems(session=session, config=self.config, items=session.items)
        self.config.hook.pytest_collection_finish(session=session)
        return True

    def _items(self, session: pytest.Session) -> Iterator[TargetItem]:
        for target in self.targets:
            yield TargetItem.from_parent(session, name=target, target=target, command=self._command(target))

    def _command(self, target: str) -> tuple[str, ...]:
        options = [
            f"--evidence={target}",
            f"--evidence-dir={self.root}",
            f"--notify={self.config.getoption('--notify')}",
        ]
        if named := self.config.getoption("--evidence-config"):
            options.append(f"--evidence-config={named}")
        options += ["-m", self.expression] if self.expression else []
        # What the user leaves out or adds holds for each run; the worker's own choice is the worker's.
        for plugin in self.config.getoption("plugins"):
            options += ["-p", plugin] if plugin not in _OWN_PLUGINS else []
        options += ["--prove"] if self.config.getoption("--prove") else []
        return (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == "tenantproof_status":
                self.statuses[report.nodeid.rpartition("::")[2] or report.nodeid] = int(str(value))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.controller or self.config.option.collectonly:
            return
        # A target whose worker crashed left no status.
        found = [self.statuses.get(target, 3) for target in self.targets]
        session.exitstatus = next(status for status in _ORDER if status in found)
        try:
            path = rollup.write_rollup(self.root, self._members(), self._signer(), datetime.now(UTC))
            self.lines.append(f"roll-up: {path}")
        except TenantproofError as error:
            self.lines.append(f"no roll-up was written: {error}")
            session.exitstatus = 3

    def _members(self) -> list[rollup.Member]:
        members = []
        for target in self.targets:
            new = [path for path in bundles(self.root / target) if path.name not in self.before[target]]
            members.append(rollup.Member(target, new[-1] if new else None))
            status = self.statuses.get(target, 3)
            self.lines.append(f"{target}: {_WORDS[status]}{f', {new[-1]}' if new else ''}")
        return members

    @staticmethod
    def _signer() -> Signer:
        return keys.load_signer() or Signer(new_seed(), ephemeral=True)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("fleet")
        for line in self.lines:
            terminalreporter.write_line(line)
