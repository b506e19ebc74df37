"""One evidence run: prepared once, judged by every worker on the same snapshot, written by the controller."""

import dataclasses
import gc
import html
import os
import tempfile
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_tenantproof import controls
from pytest_tenantproof.attest import runlog
from pytest_tenantproof.attest.sign import Signer
from pytest_tenantproof.catalog import Catalog, from_json, read_snapshot, to_json
from pytest_tenantproof.config import Settings, find_config, load_settings
from pytest_tenantproof.control import NotApplicable, NotRun, ProvenElsewhere, control_of
from pytest_tenantproof.errors import EvidenceError, TenantproofError
from pytest_tenantproof.model import Control, Outcome, Result, Scope
from pytest_tenantproof.plugin import clocks, collect, finish, progress, tell
from pytest_tenantproof.plugin.fleet import FleetPlugin, split_targets
from pytest_tenantproof.plugin.proofs import Proofs
from pytest_tenantproof.plugin.provision import Provisioned, provision
from pytest_tenantproof.target import TargetInfo, open_session

__all__ = ["EvidencePlugin", "register"]


def register(config: pytest.Config) -> None:
    """Switches the plugin on. Raises pytest.UsageError for an unknown target or a bad config."""
    try:
        settings = _settings(config)
        targets = split_targets(str(config.getoption("--evidence")))
        for name in targets:
            settings.target(name)
        if len(targets) > 1:
            config.pluginmanager.register(FleetPlugin(config, settings, targets), "tenantproof-fleet")
            return
        (target,) = targets
        plugin = EvidencePlugin(config, settings, target)
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = collect.default_paths(settings)
    except TenantproofError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(plugin, "tenantproof-session")
    config.pluginmanager.import_plugin("pytest_tenantproof.plugin.fixtures")


def _settings(config: pytest.Config) -> Settings:
    named = config.getoption("--evidence-config")
    return load_settings(Path(named) if named else find_config(config.invocation_params.dir))


class EvidencePlugin:
    """The state of a run, on the controller and (without server and signer) on each xdist worker."""

    def __init__(self, config: pytest.Config, settings: Settings, target: str) -> None:
        self.config = config
        self.settings = settings
        self.target = target
        self.worker: dict[str, Any] | None = getattr(config, "workerinput", None)
        self.started = datetime.now(UTC)
        self.results: dict[str, Result] = {}
        self.catalogue = controls.unique((*controls.catalogue(), *controls.own(settings)))
        self.provisioned: Provisioned | None = None
        self._signer = None if self.worker else finish.signer_for(settings, target)
        self.trusted = () if self._signer is None else finish.trusted_keys(settings, self._signer)
        self.scratch_key = self._signer is not None and self._signer.ephemeral
        self.dsn = ""
        self.info: TargetInfo | None = None
        self.catalog: Catalog | None = None
        self.clocks: dict[str, str] = {}
        self.written: finish.Written | None = None
        self.proofs = Proofs(self) if config.getoption("--prove") else None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def signing_key(self) -> Signer:
        """The controller's key; workers have none. Raises EvidenceError there."""
        if self._signer is None:
            raise EvidenceError("a worker cannot sign.", remedy="this is a defect: report it.")
        return self._signer

    @property
    def evidence_root(self) -> Path:
        """The folder that --evidence-dir names."""
        return Path(self.config.invocation_params.dir, self.config.getoption("--evidence-dir"))

    def prepared(self) -> tuple[TargetInfo, Catalog]:
        """The target and its catalog. Raises EvidenceError before the session has started."""
        if self.info is None or self.catalog is None:
            raise EvidenceError("the run has no target yet.", remedy="this is a defect: report it.")
        return self.info, self.catalog

    def say(self, text: str) -> None:
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"tenantproof: {text}")

    # --- before the controls -------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        if self.config.option.collectonly:
            return
        try:
            if self.worker is None:
                self._prepare()
            else:
                self._join(self.worker["tenantproof"])
        except TenantproofError as error:
            self._stop()
            self._untold(error)
            pytest.exit(f"tenantproof: {error}", returncode=error.exit_status)

    def _prepare(self) -> None:
        self.provisioned = provision(self.target, self.settings, self.say)
        self.dsn = self.provisioned.dsn
        class_ = self.settings.target(self.target).class_
        connection, self.info = open_session(self.dsn, self.target, class_)
        self.clocks = clocks.read(self.info, self.settings)
        with connection:
            snapshot = read_snapshot(connection)
        # The snapshot lives as long as the run and holds no cycles: to look for some in it again and again is in vain.
        gc.freeze()
        self.catalog = Catalog(snapshot, self.settings)
        self.say(
            f"target {self.target} ({class_}): PostgreSQL {self.info.server_version}, "
            f"{len(self.catalog.tenant_tables)} tenant tables"
        )
        if astray := controls.astray():
            self.say(f"not proven, whatever follows: these controls are not as in catalogue.lock: {', '.join(astray)}")
        progress.watch(self.config, len(self.scope()[1]))

    def _join(self, given: dict[str, Any]) -> None:
        self.dsn = given["dsn"]
        self.trusted, self.scratch_key = tuple(map(bytes.fromhex, given["trusted"])), given["scratch_key"]
        self.info = TargetInfo(**given["info"])
        self.clocks = dict(given["clocks"])
        self.catalog = Catalog(from_json(Path(given["snapshot"]).read_bytes()), self.settings)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist: workers get the target and the very snapshot that the controller read."""
        if self.info is None or self.catalog is None:
            return
        folder, pid = self.shared()
        path = folder / "snapshot.json"
        if not path.is_file():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(to_json(self.catalog.snapshot))
        node.workerinput["tenantproof"] = {
            "dsn": self.dsn,
            "trusted": [key.hex() for key in self.trusted],
            "scratch_key": self.scratch_key,
            "info": dataclasses.asdict(self.info),
            "clocks": self.clocks,
            "snapshot": str(path),
            "pid": pid,
        }

    def shared(self) -> tuple[Path, int]:
        """A folder of this run, for its controller and all its workers, and the controller's process id."""
        if self.worker is not None:
            given = self.worker["tenantproof"]
            return Path(given["snapshot"]).parent, given["pid"]
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="tenantproof-run-")
        return Path(self._folder.name), os.getpid()

    def pytest_pycollect_makeitem(self, collector: pytest.Module, name: str, obj: object) -> Any:
        if control_of(obj) is None or not isinstance(collector, pytest.Module):
            return None
        return collect.ControlItem.from_parent(collector, name=name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if not self.config.option.collectonly:
            items[:] = [item for item in items if not collect.judged_at_the_end(item)]
        if self.worker is not None:
            items[:] = collect.scattered(items)
        known = {declared.source for declared in self.catalogue}
        for item in collect.control_items(items):
            # One of two shipped controls with one id is run too: the worse result counts, and nothing is proven.
            if item.control.source not in known and item.control.id not in controls.astray():
                raise pytest.UsageError(
                    f"control {item.control.id} in {item.path} is not in the catalogue. Remedy: "
                    "list its file under controls in [tenantproof]."
                )

    # --- results -------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if isinstance(item, collect.ControlItem):
            if call.excinfo is not None and isinstance(call.excinfo.value, NotApplicable):
                report.outcome = "skipped"
                report.longrepr = (str(item.path), 0, f"not applicable: {call.excinfo.value}")
            elif report.outcome == "skipped":
                report.outcome = "failed"
            result = item.result if call.when == "call" else self._broken(item, call)
            if result is not None and self.proofs is not None and call.when == "call":
                result = self.proofs.prove(item, result, report)
            if result is not None:
                report.tenantproof = collect.to_wire(result)  # type: ignore[attr-defined]  # a report takes attributes
            report.tenantproof_control = item.control.id  # type: ignore[attr-defined]  # as plugins add them
        return report

    def _broken(self, item: "collect.ControlItem", call: pytest.CallInfo[None]) -> Result | None:
        """A fixture that failed makes the control an error; one that skipped leaves it not run, or not applicable."""
        if call.excinfo is None:
            return None
        if isinstance(why := call.excinfo.value, NotApplicable):
            elsewhere = isinstance(why, ProvenElsewhere)
            return Result(item.control.id, Outcome.NOT_APPLICABLE, str(why), elsewhere=elsewhere)
        reason = f"{call.when}: {collect.first_line(why)}"
        outcome = Outcome.NOT_RUN if isinstance(why, pytest.skip.Exception | NotRun) else Outcome.ERROR
        return Result(item.control.id, outcome, reason)

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """pytest-html: columns for control, severity and outcome."""
        for at, name in enumerate(("Control", "Severity", "Evidence"), 1):
            cells.insert(at, f"<th>{name}</th>")

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        declared = next((c for c in self.catalogue if c.id == getattr(report, "tenantproof_control", "")), None)
        data = getattr(report, "tenantproof", None) or {"outcome": ""}
        values = (declared.id, declared.severity, data["outcome"]) if declared else ("", "", "")
        for at, value in enumerate(values, 1):
            cells.insert(at, f"<td>{html.escape(str(value))}</td>")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = getattr(report, "tenantproof", None)
        if data is not None:
            self._record(collect.from_wire(data))
        elif report.failed and (crashed := self._control_at(report.nodeid)):
            self._record(Result(crashed, Outcome.ERROR, "the worker that ran it crashed"))

    def _record(self, result: Result) -> None:
        """Keeps the worst result: a second report can only make a control worse."""
        rank = (Outcome.ERROR, Outcome.FAILED, Outcome.NOT_RUN, Outcome.NOT_APPLICABLE, Outcome.PASSED)
        held = self.results.get(result.control)
        if held is None or rank.index(result.outcome) < rank.index(held.outcome):
            self.results[result.control] = result

    def _control_at(self, nodeid: str) -> str | None:
        path, _, name = nodeid.rpartition("::")
        source = f"{Path(path).stem}.{name}"
        return next((c.id for c in self.catalogue if c.source == source), None)

    # --- after the controls --------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        try:
            if self.worker is None and self.info is not None and self.catalog is not None:
                self._finish(session)
        finally:
            self._stop()

    def _finish(self, session: pytest.Session) -> None:
        try:
            self.written = finish.write(self)
            runlog.append(self.evidence_root, self.signing_key)
        except TenantproofError as error:
            what = "no evidence was written" if self.written is None else "the bundle is in no log of runs yet"
            self.say(f"{what}: {error}")
            session.exitstatus = 3
            self._untold(error)
            return
        session.exitstatus = self.written.exit_status
        try:
            untold = tell.tell(self.settings, self.written, *self._telling(), self.signing_key)
        except TenantproofError as error:
            untold = [str(error)]
        for problem in untold:
            self.say(problem)
        if untold:
            session.exitstatus = session.exitstatus or 1

    def _untold(self, error: TenantproofError) -> None:
        """Tells that a run left no evidence; the controller does, once."""
        if self.worker is None:
            for problem in tell.tell_broken(self.settings, self.target, *self._telling(), error):
                self.say(problem)

    def _telling(self) -> tuple[str, str]:
        """When people are told (--notify), and the job whose ping goes with the run."""
        return str(self.config.getoption("--notify")), str(self.config.getoption("-m", default="") or "evidence")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """xdist: what a worker says of its clone."""
        if self.proofs is not None:
            self.proofs.notes |= set(getattr(node, "workeroutput", {}).get("tenantproof", ()))

    def _stop(self) -> None:
        if self.proofs is not None:
            self.proofs.close()
            if self.worker is not None:
                self.config.workeroutput["tenantproof"] = sorted(self.proofs.notes)  # type: ignore[attr-defined]  # xdist's
        if self.provisioned is not None:
            self.provisioned.stop()
            self.provisioned = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def scope(self) -> tuple[Scope, tuple[Control, ...]]:
        """The stated scope, and its controls in a fixed order."""
        explicit = self.config.args_source is pytest.Config.ArgsSource.ARGS
        scope, chosen = collect.scope_of(self.config, self.catalogue, paths=explicit)
        if scope.narrowed:
            chosen = tuple(self.results)
            scope = dataclasses.replace(scope, selected=len(chosen))
        return scope, tuple(c for c in self.catalogue if c.id in chosen or c.id in self.results)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.written is not None:
            finish.show(self.written, terminalreporter)
