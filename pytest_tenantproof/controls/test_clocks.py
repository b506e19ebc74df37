"""9xx: when the evidence was made."""

from datetime import datetime
from itertools import combinations

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.config.timestamp import TimestampSettings
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import EVIDENCE
from pytest_tenantproof.model import Severity


@control("TP941", title="Clocks agree", severity=Severity.MEDIUM, requirement="A1", maps=EVIDENCE)
@falsified_by(given={"clocks": {"local": "2026-01-01T00:00:00Z", "database": "2026-01-01T01:00:00Z"}})
def test_clocks_agree(catalog: Catalog, clocks: dict[str, str], findings: Findings) -> None:
    """Evidence, audit events and backups are ordered by clocks: one that is off makes their order worthless.

    Compared are this machine's, the database's and, where one is configured, the timestamp authority's clock,
    read one right after the other. Set the clock that is off by NTP; the limit is `max_skew_s`.
    """
    limit = catalog.settings.timestamp.max_skew_s
    times = {name: datetime.fromisoformat(clocks[name]) for name in ("local", "database", "trusted") if name in clocks}
    for (one, a), (other, b) in combinations(times.items(), 2):
        if (skew := abs((a - b).total_seconds())) > limit:
            findings.add(f"clock:{one}", f"differs from the {other} clock by {skew:.0f} s, more than {limit:.0f} s")


@control(
    "TP942", title="A timestamp authority attests the time", severity=Severity.LOW, requirement="A1", maps=EVIDENCE
)
@falsified_by(
    settings={"timestamp": TimestampSettings(url="http://tsa.example")},
    given={"clocks": {"trusted_error": "no answer"}},
)
def test_trusted_time(catalog: Catalog, clocks: dict[str, str], findings: Findings) -> None:
    """A signature says who, not when: whoever holds the key can back-date it. An RFC 3161 authority's token over
    the signature shows that the bundle existed then. Configure [tenantproof.timestamp], and find out why the
    authority gave no usable answer.
    """
    if not catalog.settings.timestamp.url:
        findings.not_applicable("no timestamp authority is configured")
    if "trusted" not in clocks:
        findings.add("timestamp authority", clocks.get("trusted_error", "gave no time"))
