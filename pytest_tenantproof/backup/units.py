"""The work of a backup, cut into units: each is read by one process and becomes one object."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_tenantproof.backup.plan import BackupPlan, PlannedTable

__all__ = ["Job", "Share", "Unit", "plan_units"]

_LARGE = 32 << 20
_PACK = 56 << 20
_LEAST = 8 << 20
_AT_ONCE = 4
"""The last packs shrink to this part of what is left, so that workers end together."""
_PACK_TENANTS = 1000


@dataclass(frozen=True, slots=True)
class Share:
    """One archive's part of a unit: `rows` by position of the table. The data key never reaches a disk."""

    tenant: str | None
    key: str = field(repr=False)
    rows: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Unit:
    """`size` is an estimate in bytes of plain text."""

    object: str
    shares: tuple[Share, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker has to know for all of its units; of tables at `estimated` positions, the shares' rows are."""

    dsn: str = field(repr=False)
    snapshot: str
    run: str
    tables: tuple[PlannedTable, ...]
    tables_sha256: str
    level: int
    estimated: tuple[int, ...]
    options: Mapping[str, str]
    lock: bool = True
    fingerprints: bool = True


def plan_units(
    run: str, plan: BackupPlan, counts: Sequence[Mapping[str | None, int]], keys: Mapping[str | None, bytes]
) -> list[Unit]:
    """Units, largest first: a large table of one tenant by itself, small tenants together in packs."""
    widths = [_width(table, rows) for table, rows in zip(plan.tables, counts, strict=True)]
    archives: dict[str | None, dict[int, int]] = {tenant: {} for tenant in keys}
    for place, rows in enumerate(counts):
        for tenant, number in rows.items():
            archives[tenant][place] = number
    packs = list(_packs(archives, widths))
    packs.sort(key=lambda pack: -pack[1])
    return [
        Unit(
            f"runs/{run}/pack-{number:05}.tpb",
            tuple(Share(tenant, keys[tenant].hex(), rows) for tenant, rows in shares),
            size,
        )
        for number, (shares, size) in enumerate(packs, 1)
    ]


def _width(table: PlannedTable, rows: Mapping[str | None, int]) -> float:
    return max(table.size / max(sum(rows.values()), 1), 16.0)


_Shares = list[tuple[str | None, dict[int, int]]]


def _packs(archives: Mapping[str | None, Mapping[int, int]], widths: Sequence[float]) -> Iterator[tuple[_Shares, int]]:
    small: list[tuple[float, str | None, dict[int, int]]] = []
    for tenant, rows in archives.items():
        sizes = {place: number * widths[place] for place, number in rows.items()}
        for place in [p for p, size in sizes.items() if size >= _LARGE]:
            yield [(tenant, {place: rows[place]})], int(sizes.pop(place))
        if sizes:
            small.append((sum(sizes.values()), tenant, {p: rows[p] for p in sizes}))
    small.sort(key=lambda item: (-item[0], item[1] or ""))
    shares: _Shares = []
    left, total = sum(size for size, _, _ in small), 0.0
    for size, tenant, kept in small:
        limit = min(max(left / _AT_ONCE, _LEAST), _PACK)
        if shares and (total + size > limit or len(shares) >= _PACK_TENANTS):
            yield shares, int(total)
            left -= total
            shares, total = [], 0.0
        shares.append((tenant, kept))
        total += size
    if shares:
        yield shares, int(total)
