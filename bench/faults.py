"""The isolation-fault benchmark: which faults does a finding explain, and does anything harmless turn red?

    python bench/faults.py [--faults FILE.tsv] [--benign FILE.tsv] [--peers] [--only ID,ID] [--workers 2]

Each row of the lists (id, group, description, sql, undo) is run as superuser on a fresh copy of
tests/faults/base.sql. A fault counts as detected when a finding names what the statement changed: the object,
its table or parent, or the role or setting. Declared = deployed (9xx) is left out. Prints a table, writes
bench/faults.json, and ends with 1 when fewer than 95 % are detected or a harmless change is red.
"""

import argparse
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench._cluster import Cluster, Verdict, judge_case, open_cluster
from bench._peers import PEERS, Peer, install

WANTED = 0.95
HERE = Path(__file__).parent
_cluster: Cluster | None = None
_peers: tuple[Peer, ...] = ()


@dataclass(frozen=True)
class Row:
    id: str
    group: str
    description: str
    sql: str
    undo: str = ""

    @property
    def harmless(self) -> bool:
        return self.group == "benign"


@dataclass(frozen=True)
class Case:
    row: Row
    verdict: Verdict
    seconds: float
    peers: Mapping[str, bool] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.verdict.error and (not self.verdict.red if self.row.harmless else bool(self.verdict.explained))


def read_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        found = csv.DictReader(file, delimiter="\t")
        return [Row(r["id"], r["group"], r["description"], r["sql"], r.get("undo") or "") for r in found]


def _start(peers: tuple[str, ...]) -> None:
    global _cluster, _peers
    _cluster = open_cluster()
    _peers = tuple(PEERS[name] for name in peers)


def _run(row: Row) -> Case:
    """One row on a copy of the base. A worker runs one at a time, so a cluster-wide one is alone on its cluster."""
    assert _cluster is not None
    started = time.monotonic()
    with _cluster.copy(row.sql, row.undo) as copy:
        verdict = judge_case(_cluster, copy)
        seen = {peer.name: peer.detects(copy.dsn, row.sql, _cluster.peer_baseline(peer)) for peer in _peers}
    return Case(row, verdict, time.monotonic() - started, seen)


def run(rows: list[Row], workers: int, peers: tuple[str, ...] = ()) -> Iterator[Case]:
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(peers,)) as pool:
        for number, done in enumerate(as_completed([pool.submit(_run, row) for row in rows]), 1):
            case = done.result()
            if sys.stderr.isatty():
                print(f"\r{number}/{len(rows)} {case.row.id:<8}", end="", file=sys.stderr, flush=True)
            yield case


def table(cases: list[Case], peers: tuple[str, ...]) -> str:
    lines = [f"{'':95}{' '.join(peers)}"] if peers else []
    for case in cases:
        v = case.verdict
        by = ", ".join(sorted(v.red if case.row.harmless else v.explained))
        what = v.error or next(iter(v.named), "") if not case.row.harmless else v.error or "; ".join(v.details[:1])
        mark = "ok  " if case.ok else "RED " if case.row.harmless else "MISS"
        seen = "".join(f" {'x' if case.peers.get(name) else '.':^{len(name)}}" for name in peers)
        lines.append(
            f"{mark} {case.row.id:<5} {case.row.group:<20} {by:<34.34} {what:<44.44}{seen}  {case.row.description}"
        )
    return "\n".join(lines)


def summary(cases: list[Case], peers: tuple[str, ...]) -> tuple[str, bool]:
    faults = [c for c in cases if not c.row.harmless]
    benign = [c for c in cases if c.row.harmless]
    detected, red = sum(c.ok for c in faults), sum(not c.ok for c in benign)
    share = detected / len(faults) if faults else 1.0
    groups = Counter(c.row.group for c in faults)
    found = Counter(c.row.group for c in faults if c.ok)
    lines = [f"{name:<24} {found[name]:>3} of {count}" for name, count in sorted(groups.items())]
    lines.append(f"faults detected          {detected} of {len(faults)} ({share:.1%})")
    lines.append(f"harmless changes red     {red} of {len(benign)}")
    lines += [f"{name:<24} {sum(bool(c.peers.get(name)) for c in faults)} of {len(faults)}" for name in peers]
    return "\n".join(lines), share >= WANTED and not red


def record(cases: list[Case]) -> list[dict[str, object]]:
    return [
        {
            "id": c.row.id,
            "group": c.row.group,
            "description": c.row.description,
            "ok": c.ok,
            "controls": sorted(c.verdict.red if c.row.harmless else c.verdict.explained),
            "named": list(c.verdict.named),
            "details": list(c.verdict.details),
            "error": c.verdict.error,
            "seconds": round(c.seconds, 3),
            "peers": dict(c.peers),
        }
        for c in cases
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=Path, default=HERE.parent / "tests" / "faults" / "faults.tsv")
    parser.add_argument("--benign", type=Path, default=HERE.parent / "tests" / "faults" / "benign.tsv")
    parser.add_argument("--peers", action="store_true", help="also run the other tools, installed into .tools/")
    parser.add_argument("--only", default="", help="ids, comma-separated")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    only = set(filter(None, given.only.split(",")))
    rows = [r for r in (*read_rows(given.faults), *read_rows(given.benign)) if not only or r.id in only]
    peers = install() if given.peers else ()
    order = {row.id: n for n, row in enumerate(rows)}
    cases = sorted(run(rows, given.workers, peers), key=lambda case: order[case.row.id])
    text, good = summary(cases, peers)
    print(table(cases, peers), "", text, sep="\n")
    (HERE / "faults.json").write_text(json.dumps(record(cases), indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
