"""Workers share the attack by files: no part is done twice, and none is missed in silence."""

import multiprocessing
import os
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pytest_tenantproof.errors import ProbeError
from pytest_tenantproof.plugin.shares import _own_file, _shares, _taken
from pytest_tenantproof.probes import Probed, joined, plain

_PROCESSES = multiprocessing.get_context("spawn")


def _work(folder: Path, wanted: int, began: Event, die: bool) -> None:
    import json

    with _own_file(folder) as out:
        taken = _taken(folder, wanted)
        share = {next(taken): plain(Probed(attempts=1))}
        began.set()
        if die:
            os._exit(1)
        share |= {number: plain(Probed(attempts=1)) for number in taken}
        json.dump(share, out)


@pytest.mark.parametrize("die", [False, True])
def test_whoever_waits_gets_every_part_or_an_error(die: bool, tmp_path: Path) -> None:
    workers, events = [], [_PROCESSES.Event() for _ in range(3)]
    for number, event in enumerate(events):
        work = _PROCESSES.Process(target=_work, args=(tmp_path, 500, event, die and number == 1))
        work.start()
        workers.append(work)
    for event in events:
        assert event.wait(60)
    shares = list(_shares(tmp_path))  # waits for the others, not for the dead one
    if die:
        with pytest.raises(ProbeError, match="of 500 of the attack has no result"):
            joined(500, shares)
    else:
        assert joined(500, shares).attempts == 500
        assert sum(len(share) for share in shares) == 500
    for work in workers:
        work.join()
