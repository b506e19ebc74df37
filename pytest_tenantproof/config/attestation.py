"""The shape of [[tenantproof.attestations]]: what a person vouches for, because no control can."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

__all__ = ["Attestation"]


@dataclass(frozen=True, slots=True)
class Attestation:
    """[[tenantproof.attestations]]: what a person vouches for, because no control can."""

    what: str
    """What is attested, e.g. "access reviews were held this quarter"."""
    who: str
    """Who vouches for it."""
    until: date
    """From the day after, it counts as not run."""
    clauses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Clauses by framework that it is evidence for, e.g. {SOC2 = ["CC1.1"]}."""
