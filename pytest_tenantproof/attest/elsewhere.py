"""Finds the bundle that proves what this target cannot run by design: verified, of the same catalog, and recent."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_tenantproof.attest.bundle import bundles
from pytest_tenantproof.attest.runlog import targets
from pytest_tenantproof.attest.strictjson import load
from pytest_tenantproof.attest.verify import Verified, verify_bundle
from pytest_tenantproof.errors import TenantproofError
from pytest_tenantproof.model import Elsewhere, Outcome, Result

__all__ = ["proven_elsewhere"]

_RAN = ("passed", "failed", "error")
_SKEW = timedelta(minutes=5)


def proven_elsewhere(
    root: Path, results: Iterable[Result], catalog: str, trusted: Sequence[bytes], now: datetime, max_age_days: int
) -> tuple[Elsewhere, ...]:
    """For each result that is left to another target: the newest bundle below `root` that ran the control.

    `catalog` is the catalog's digest. `trusted` are raw public keys: a bundle signed by no other, or changed,
    is passed over. A newer failure is never hidden by an older pass.
    """
    wanted = {result.control: result.reason for result in results if result.elsewhere}
    found: dict[str, Verified] = {}
    refused: dict[str, int] = dict.fromkeys(wanted, 0)
    for path in _newest_first(root) if wanted else ():
        open_ = _ran(path, catalog, wanted.keys() - found.keys())
        if not open_:
            continue
        try:
            verified = verify_bundle(path, trusted)
        except TenantproofError:
            for control in open_:
                refused[control] += 1
            continue
        # Asked again of the report that was verified: the folder could have changed in between.
        for control in open_ & _controls(verified.report, catalog).keys():
            found[control] = verified
    return tuple(
        _judge(control, reason, found.get(control), refused[control], now, max_age_days)
        for control, reason in sorted(wanted.items())
    )


def _newest_first(root: Path) -> Iterator[Path]:
    every = [path for target in targets(root) for path in bundles(root / target)]
    return iter(sorted(every, key=lambda path: path.name, reverse=True))


def _ran(path: Path, catalog: str, wanted: set[str]) -> set[str]:
    """Which of the controls a bundle claims to have run on that catalog: a cheap look before it is verified."""
    if not wanted:
        return set()
    try:
        data = (path / "report.json").read_bytes()
        if catalog.encode() not in data or not any(f'"{control}"'.encode() in data for control in wanted):
            return set()
        return wanted & _controls(load(data, "report.json"), catalog).keys()
    except (OSError, TenantproofError, AttributeError, KeyError, TypeError):
        return set()


def _controls(report: Mapping[str, Any], catalog: str) -> dict[str, Any]:
    if report["digests"].get("catalog") != catalog:
        return {}
    return {control["id"]: control for control in report["controls"] if control["outcome"] in _RAN}


def _judge(
    control: str, reason: str, found: Verified | None, refused: int, now: datetime, max_age_days: int
) -> Elsewhere:
    if found is None:
        more = f"; {refused} that claim to have could not be verified" if refused else ""
        return Elsewhere(control, reason, problem=f"no bundle of the same catalog ran it{more}")
    age = now - datetime.fromisoformat(found.report["finished"])
    outcome = next(c["outcome"] for c in found.report["controls"] if c["id"] == control)
    problem = ""
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
