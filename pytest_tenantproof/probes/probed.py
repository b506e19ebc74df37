"""What an attack showed, and how the parts that several workers did become one result."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_tenantproof.errors import ProbeError
from pytest_tenantproof.probes.attacks import Attempt, Breach
from pytest_tenantproof.probes.identities import Identity

__all__ = ["PREPARED", "Probed", "joined", "of_plain", "plain"]

PREPARED = -1
"""The number of the part that says what could not be prepared; each worker has one."""
_BUSY = ("55P03", "40P01")


@dataclass(slots=True)
class Probed:
    """What the attack showed. `problems`: tables that could not be attacked, or an attempt that says nothing.

    `permitted` are the (table, role) pairs at which the victim's own user reads the very row that others must
    not; `silenced` are triggers that would have reached out, and were disabled instead.
    """

    breaches: list[Breach] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    tables: list[str] = field(default_factory=list)
    permitted: set[tuple[str, str]] = field(default_factory=set)
    silenced: list[str] = field(default_factory=list)

    def add(self, attempt: Attempt) -> None:
        self.attempts += 1
        if attempt.breach is not None:
            self.breaches.append(attempt.breach)
        if attempt.problem:
            self.problems.setdefault(
                attempt.object, f"{attempt.operation} by {attempt.identity.name} {attempt.problem}"
            )

    @property
    def disturbed(self) -> bool:
        """Whether a lock of another session stood in the way: then nothing here counts."""
        return any(code in why for why in self.problems.values() for code in _BUSY)

    def merge(self, other: "Probed") -> None:
        self.breaches += other.breaches
        self.problems = other.problems | self.problems
        self.attempts += other.attempts
        self.tables += (name for name in other.tables if name not in self.tables)
        self.permitted |= other.permitted
        self.silenced += (name for name in other.silenced if name not in self.silenced)


def joined(wanted: int, shares: Iterable[Mapping[int, Probed]]) -> Probed:
    """One result of all workers' shares, in the order of the parts, whoever did them.

    Raises ProbeError when one of the `wanted` parts was done by nobody.
    """
    everything = list(shares)
    done = Probed()
    for share in everything:
        if PREPARED in share:
            done.merge(share[PREPARED])
    for number in range(wanted):
        part = next((share[number] for share in everything if number in share), None)
        if part is None:
            raise ProbeError(
                f"part {number + 1} of {wanted} of the attack has no result: the worker that began it is gone.",
                remedy="run it again; with -n 0 if it happens twice.",
            )
        done.merge(part)
    return done


def plain(part: Probed) -> dict[str, Any]:
    """As data that JSON can hold."""
    return {**asdict(part), "permitted": sorted(part.permitted)}


def of_plain(data: Mapping[str, Any]) -> Probed:
    """The inverse of plain()."""
    breaches = [Breach(**{**b, "identity": _identity(b["identity"])}) for b in data["breaches"]]
    return Probed(**{**data, "breaches": breaches, "permitted": {(t, r) for t, r in data["permitted"]}})


def _identity(data: Mapping[str, Any]) -> Identity:
    return Identity(**{**data, "tenants": tuple(data["tenants"])})
