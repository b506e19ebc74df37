"""9xx: what this class of target cannot run was run elsewhere, on the same catalog, not long ago."""

from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import EVIDENCE
from pytest_tenantproof.model import Elsewhere, Severity
from pytest_tenantproof.waivers import EndOfRun

_NEVER = Elsewhere("TP301", "it writes", problem="no bundle of the same catalog ran it")
_OLD = Elsewhere("TP301", "it writes", "staging", "", "", "", 30.0, "that bundle is older than 7 days")


@control(
    "TP921",
    title="What cannot run here is proven elsewhere",
    severity=Severity.HIGH,
    requirement="A1",
    maps=EVIDENCE,
)
@falsified_by(given={"ended": EndOfRun((), (), (_NEVER,))})
@falsified_by(given={"ended": EndOfRun((), (), (_OLD,))})
def test_proven_elsewhere(ended: EndOfRun, findings: Findings) -> None:
    """A live target is never written to, so some attacks are not tried on it. They count as proven only by a signed
    bundle of another target whose catalog has the same digest, that ran the control, passed it, and is recent.

    Collect evidence on a staging target with the same schema, and keep its bundles in the same evidence folder.
    Public keys whose bundles count, and the greatest age, are in [tenantproof.elsewhere].
    """
    for there in ended.elsewhere:
        if there.problem:
            where = f" ({there.target} {there.run_id})" if there.run_id else ""
            findings.add(there.control, there.problem + where, fix="pytest --evidence=staging")
