"""Workers share the attack by files: no part is done twice, and none is missed in silence."""

import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from pytest_tenantproof.errors import ProbeError
from pytest_tenantproof.plugin.collect import scattered
from pytest_tenantproof.plugin.shares import _own_file, _shares, _taken
from pytest_tenantproof.probes import Probed, joined, plain

_PROCESSES = multiprocessing.get_context("spawn")


def _work(folder: Path, wanted: int, begin: Barrier, die: bool) -> None:
    import json

    with _own_file(folder) as out:
        taken = _taken(folder, wanted)
        begin.wait(60)
        share = {next(taken): plain(Probed(attempts=1))}
        begin.wait(60)
        if die:
            os._exit(1)
        share |= {number: plain(Probed(attempts=1)) for number in taken}
        json.dump(share, out)


@pytest.mark.parametrize("die", [False, True])
def test_whoever_waits_gets_every_part_or_an_error(die: bool, tmp_path: Path) -> None:
    begin = _PROCESSES.Barrier(4)
    workers = [_PROCESSES.Process(target=_work, args=(tmp_path, 500, begin, die and n == 1)) for n in range(3)]
    for work in workers:
        work.start()
    begin.wait(60)
    begin.wait(60)
    shares = list(_shares(tmp_path))  # waits for the others, not for the dead one
    if die:
        with pytest.raises(ProbeError, match="of 500 of the attack has no result"):
            joined(500, shares)
    else:
        assert joined(500, shares).attempts == 500
        assert sum(len(share) for share in shares) == 500
    for work in workers:
        work.join()


def test_long_controls_are_spread_over_the_run(request: pytest.FixtureRequest) -> None:
    class Item(pytest.Item):
        def runtest(self) -> None: ...

    def item(name: str, *fixtures: str) -> pytest.Item:
        made = Item.from_parent(request.session, name=name)
        made.fixturenames = fixtures  # type: ignore[attr-defined]
        return made

    items = [*(item(f"s{n}") for n in range(7)), *(item(f"L{n}", "probes") for n in range(3))]
    names = "L0 s0 s1 L1 s2 s3 s4 L2 s5 s6"
    assert [each.name for each in scattered(items)] == names.split()
    assert scattered(items[:4]) == items[:4]
    assert scattered([]) == []
