"""From results to a signed bundle, and what the terminal says of it."""

import inspect
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest_tenantproof
from pytest_tenantproof import controls
from pytest_tenantproof.attest import bundle, keys
from pytest_tenantproof.attest.elsewhere import proven_elsewhere
from pytest_tenantproof.attest.record import Run, record
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.audit import head_of, seals_folder
from pytest_tenantproof.config import Settings
from pytest_tenantproof.controls.judge import functions, judge
from pytest_tenantproof.errors import SigningKeyError
from pytest_tenantproof.model import Control, Elsewhere, Outcome, Result, Scope, Verdict, verdict_of
from pytest_tenantproof.plugin import clocks
from pytest_tenantproof.plugin.drill import drill_of
from pytest_tenantproof.plugin.storage import newest_backup
from pytest_tenantproof.report import RENDERERS, checklist
from pytest_tenantproof.report.shape import headline
from pytest_tenantproof.waivers import EndOfRun, apply_waivers

if TYPE_CHECKING:
    from pytest_tenantproof.plugin.session import EvidencePlugin

__all__ = ["Written", "show", "signer_for", "trusted_keys", "write"]


@dataclass(frozen=True, slots=True)
class Written:
    """A bundle on disk, what it says, and the exit status that goes with it."""

    path: Path
    report: Mapping[str, Any]
    exit_status: int
    ephemeral: bool


def signer_for(settings: Settings, target: str) -> Signer:
    """The environment's key, or an ephemeral one where the target allows it. Raises SigningKeyError."""
    signer = keys.load_signer()
    if signer is not None:
        return signer
    wanted = settings.target(target)
    if wanted.class_ == "live" or wanted.signing == "required":
        raise SigningKeyError(
            f"target {target!r} needs a signing key, and the environment names none.",
            remedy=f"run `tenantproof keys new` and set {keys.KEY_FILE_VARIABLE} to the .key file.",
        )
    return Signer(new_seed(), ephemeral=True)


def write(run: "EvidencePlugin") -> Written:
    """Reconciles the results with the catalogue, and writes and signs the bundle. Raises EvidenceError."""
    scope, declared = run.scope()
    elsewhere = _elsewhere(run)
    scope = _unproven(scope, elsewhere)
    results = tuple(zip(declared, _results(run, declared, elsewhere), strict=True))
    verdict, status = verdict_of(tuple(result for _, result in results), scope)
    finished = datetime.now(UTC)
    made: dict[str, Any] = {}

    def report_after(run_id: str, previous: dict[str, str] | None) -> Mapping[str, Any]:
        made.update(record(_run(run, run_id, finished, verdict, scope, results, previous, elsewhere)))
        return made

    path = bundle.write_bundle(
        run.evidence_root, run.target, run.signing_key, report_after, RENDERERS, stamp=clocks.stamper(run)
    )
    return Written(path, made, status, run.signing_key.ephemeral)


def _elsewhere(run: "EvidencePlugin") -> tuple[Elsewhere, ...]:
    """What this target left to others, and which bundle proves it. An ephemeral key vouches for no other run."""
    catalog, results = run.prepared()[1].sha256, tuple(run.results.values())
    oldest = run.settings.elsewhere.max_age_days
    return proven_elsewhere(run.evidence_root, results, catalog, run.trusted, datetime.now(UTC), oldest)


def trusted_keys(settings: Settings, signer: Signer) -> tuple[bytes, ...]:
    """Raw public keys of whom a run believes: itself, unless its key is gone with it, and [tenantproof.elsewhere]."""
    named = (keys.read_public(settings.root / path) for path in settings.elsewhere.keys)
    return (*named, *(() if signer.ephemeral else (signer.public,)))


def _unproven(scope: Scope, elsewhere: tuple[Elsewhere, ...]) -> Scope:
    """What is proven nowhere is missing, whatever became of TP921: left out by a marker, or waived. So is what the
    installed catalogue lacks."""
    nowhere = (there.control for there in elsewhere if there.problem)
    return replace(scope, missing=(*scope.missing, *nowhere, *controls.astray()))


def _results(
    run: "EvidencePlugin", declared: tuple[Control, ...], elsewhere: tuple[Elsewhere, ...]
) -> tuple[Result, ...]:
    """A result for each control in scope: those that need all others' last, waivers on top."""
    found = tuple(_result(control, run.results) for control in declared)
    ended = EndOfRun(found, run.settings.waivers, elsewhere)
    late = {id_ for id_, function in functions().items() if "ended" in inspect.signature(function).parameters}
    catalog = run.prepared()[1]
    judged = (judge(r.control, catalog, ended=ended) if r.control in late else r for r in found)
    known = {control.id: control for control in run.catalogue}
    return apply_waivers(judged, run.settings.waivers, known, datetime.now(UTC).date())


def _result(control: Control, results: Mapping[str, Result]) -> Result:
    """A control that is in scope and has no result did not run, whatever the reason."""
    return results.get(control.id) or Result(control.id, Outcome.NOT_RUN, "selected, but it has no result")


def _run(
    run: "EvidencePlugin",
    run_id: str,
    finished: datetime,
    verdict: Verdict,
    scope: Scope,
    results: tuple[tuple[Control, Result], ...],
    previous: dict[str, str] | None,
    elsewhere: tuple[Elsewhere, ...],
) -> Run:
    info, catalog = run.prepared()
    target = {key.rstrip("_"): value for key, value in asdict(info).items() if key != "server_time"}
    controls_digest = controls.catalogue_digest(run.catalogue)
    drill = drill_of(run.shared()[0])
    return Run(
        run_id=run_id,
        started=clocks.utc(run.started),
        finished=clocks.utc(finished),
        verdict=verdict,
        target=target,
        tool={
            "version": pytest_tenantproof.__version__,
            "controls_sha256": controls_digest,
            "git_commit": _commit(run.settings.root),
        },
        scope=scope,
        results=results,
        previous=previous,
        digests={
            "catalog": catalog.sha256,
            "controls": controls_digest,
            "config": run.settings.digest,
            **catalog.parts_sha256,
            **({"backup": drill.manifest_sha256} if drill else {}),
            **({"seal": head} if (head := head_of(seals_folder(run.evidence_root, run.target))) else {}),
        },
        clocks=run.clocks,
        ephemeral_key=run.signing_key.ephemeral,
        elsewhere=elsewhere,
        prove=sorted(run.proofs.notes) if run.proofs else None,
        attestations=_attestations(run.settings),
        backup=newest_backup(run.shared()[0]),
        drill=drill.told() if drill else None,
    )


def _attestations(settings: Settings) -> list[dict[str, Any]]:
    today = datetime.now(UTC).date()
    return [
        {
            "what": a.what,
            "who": a.who,
            "until": a.until.isoformat(),
            "clauses": {name: list(clauses) for name, clauses in a.clauses.items()},
            "outcome": "attested" if a.until >= today else "not_run",
        }
        for a in settings.attestations
    ]


def _commit(folder: Path) -> str:
    """The commit of the product's repository, or "" outside one."""
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run(
        [git, "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def show(written: Written, terminal: Any) -> None:
    """The checklist, then where the report is, the verdict and how to verify."""
    terminal.section("tenant isolation and recovery")
    for line in checklist(written.report, color=terminal.hasmarkup):
        terminal.write_line(line)
    terminal.section("evidence")
    path = written.path
    try:
        path = path.relative_to(Path.cwd())
    except ValueError:
        path = written.path
    option = " --allow-ephemeral" if written.ephemeral else " --key YOUR.pub"
    terminal.write_line(f"report:  {path / 'report.html'}")
    terminal.write_line(f"verdict: {headline(written.report)}")
    terminal.write_line(f"verify:  tenantproof verify{option} {path}")
