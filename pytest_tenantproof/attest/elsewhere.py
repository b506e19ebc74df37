"""Finds earlier evidence that this run relies on: what proves elsewhere what cannot run here, and the last report."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest.bundle import bundles
from pytest_tenantproof.attest.runlog import targets
from pytest_tenantproof.attest.strictjson import load
from pytest_tenantproof.attest.verify import Verified, signed_report, verify_bundle
from pytest_tenantproof.errors import TenantproofError, VerificationError
from pytest_tenantproof.model import Elsewhere, Outcome, Result

__all__ = ["last_report", "proven_elsewhere"]

_RAN = ("passed", "failed", "error")
_SKEW = timedelta(minutes=5)


def proven_elsewhere(
    root: Path, results: Iterable[Result], catalog: str, trusted: Sequence[bytes], now: datetime, max_age_days: int
) -> tuple[Elsewhere, ...]:
    """For each result that is left to another target: the newest bundle below `root` that ran the control.

    `catalog` is the catalog's digest. `trusted` are raw public keys: a bundle signed by no other counts. A newer
    failure is never hidden by an older pass, and neither is a newer bundle that cannot be verified: it may be one.
    """
    wanted = {result.control: result.reason for result in results if result.elsewhere}
    found: dict[str, Verified] = {}
    doubts: dict[str, str] = {}
    for path in _newest_first(root) if wanted else ():
        if not (open_ := wanted.keys() - found.keys()):
            break
        try:
            if ran := _ran(path, catalog, open_, trusted):
                verified = verify_bundle(path, trusted)
                # Asked again of the report that was verified: the folder could have changed in between.
                found |= dict.fromkeys(ran & _controls(verified.report, catalog).keys(), verified)
        except (TenantproofError, OSError) as error:
            if not _scratch(path):
                doubts = dict.fromkeys(open_, _said(path, error)) | doubts
    return tuple(
        _judge(control, reason, found.get(control), doubts.get(control, ""), now, max_age_days)
        for control, reason in sorted(wanted.items())
    )


def last_report(folder: Path, trusted: Sequence[bytes], *, scratch: bool) -> Mapping[str, Any] | None:
    """The newest report of a target that a trusted key signed, None where there is none.

    With `scratch`, a bundle's own key counts too; without, whole bundles of such keys are passed over. Raises
    VerificationError for a bundle that may be the newest one, and cannot be verified.
    """
    for path in reversed(bundles(folder)):
        try:
            return load(signed_report(path, trusted, allow_ephemeral=scratch), "report.json")
        except VerificationError:
            if not _scratch(path):
                raise
    return None


def _newest_first(root: Path) -> list[Path]:
    every = [path for target in targets(root) for path in bundles(root / target)]
    return sorted(every, key=lambda path: path.name, reverse=True)


def _ran(path: Path, catalog: str, wanted: Collection[str], trusted: Sequence[bytes]) -> set[str]:
    """Which of the controls a bundle ran on that catalog, by the report that was signed."""
    data = signed_report(path, trusted)
    if catalog.encode() not in data:
        return set()
    try:
        return wanted & _controls(load(data, "report.json"), catalog).keys()
    except (AttributeError, KeyError, TypeError):
        raise VerificationError("schema-mismatch", "report.json is not as its schema says.") from None


def _scratch(path: Path) -> bool:
    """Whether it is whole, and of a key that came with it: it vouches for nothing, and was never to be relied on."""
    try:
        return b'"ephemeral": true' in signed_report(path, (), allow_ephemeral=True)
    except (TenantproofError, OSError):
        return False


def _said(path: Path, error: Exception) -> str:
    why = error.reason if isinstance(error, VerificationError) else type(error).__name__
    return f"bundle {path.parent.name} {path.name} cannot be verified ({why})"


def _controls(report: Mapping[str, Any], catalog: str) -> dict[str, Any]:
    if report["digests"].get("catalog") != catalog:
        return {}
    return {control["id"]: control for control in report["controls"] if control["outcome"] in _RAN}


def _judge(
    control: str, reason: str, found: Verified | None, doubt: str, now: datetime, max_age_days: int
) -> Elsewhere:
    if found is None:
        said = "no bundle of the same catalog ran it"
        return Elsewhere(control, reason, problem=f"{said}; {doubt}" if doubt else said)
    age = now - datetime.fromisoformat(found.report["finished"])
    outcome = next(c["outcome"] for c in found.report["controls"] if c["id"] == control)
    problem = f"a newer {doubt}" if doubt else ""
    if outcome != Outcome.PASSED:
        problem = f"it did not pass there: {outcome}"
    elif age < -_SKEW:
        problem = "that bundle is dated in the future"
    elif age > timedelta(days=max_age_days):
        problem = f"that bundle is older than {max_age_days} days"
    days = round(max(age, timedelta()) / timedelta(days=1), 2)
    return Elsewhere(
        control, reason, found.target, found.run_id, found.report_sha256, found.report["finished"], days, problem
    )
