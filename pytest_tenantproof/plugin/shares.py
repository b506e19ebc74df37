"""Work that all workers of a run share: each takes the next part when it is ready, and all get the whole result.

A worker keeps a lock on a file of its own until its parts are written there. The system frees it when the worker
dies, so nobody waits for a dead one; a part that then has no result is an error for all (joined()).
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.probes import Probed, joined, of_plain, parts, plain, probe, probe_share

if TYPE_CHECKING:
    from pytest_tenantproof.plugin.session import EvidencePlugin

__all__ = ["probe_together"]


def probe_together(run: "EvidencePlugin", connection: psycopg.Connection[Any], catalog: Catalog) -> Probed:
    """The whole attack, made by this process and whatever other workers of the run come for its result.

    Raises ProbeError when a worker died over a part of it.
    """
    if run.worker is None:
        return probe(connection, catalog)
    folder, _ = run.shared()
    wanted = len(parts(catalog))
    with _own_file(folder) as out:
        share = probe_share(connection, catalog, _taken(folder, wanted))
        json.dump({number: plain(part) for number, part in share.items()}, out)
    return joined(wanted, _shares(folder))


@contextlib.contextmanager
def _own_file(folder: Path) -> Iterator[IO[str]]:
    """A locked file that only this process writes; others see it as long as the folder is there."""
    with (folder / "probes.lock").open("a") as door:  # nobody may look at the file before it is locked
        fcntl.flock(door, fcntl.LOCK_EX)
        out = (folder / f"probes-{os.getpid()}.json").open("w")
        fcntl.flock(out, fcntl.LOCK_EX)
    with out:
        yield out


def _taken(folder: Path, wanted: int) -> Iterator[int]:
    """The numbers of the parts that nobody else has taken, one at a time."""
    while True:
        with (folder / "probes.next").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            number = int(file.read() or 0)
            file.truncate(0)
            file.write(str(number + 1))
        if number >= wanted:
            return
        yield number


def _shares(folder: Path) -> Iterator[dict[int, Probed]]:
    """What each worker did, waiting for those that are at it. One that died left an empty file."""
    for path in sorted(folder.glob("probes-*.json")):
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            text = file.read()
        yield {int(number): of_plain(part) for number, part in json.loads(text or "{}").items()}
