"""The full probe matrix on a product of 100 tables and more: `python -m bench.probes [tables] [rounds]`.

The whole command, from start-up to the signed bundle, is to take at most 60 seconds, and two processes are to attack at
least 1.6 times as fast as one. Both in one run on one server, in turn, best of three, so that the ratio travels.
"""

import sys
import tempfile
from pathlib import Path

from bench._limits import Limits
from bench._runs import timed
from bench.scale import build
from pytest_tenantproof.target import find_bin, start

_TARGET = """
[tenantproof.targets.bench]
class = "staging"
signing = "optional"
"""


def main() -> int:
    tables = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with start(find_bin(18)) as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tenantproof.toml").write_text((Path(__file__).parents[1] / "tenantproof.toml").read_text() + _TARGET)
        dsn = build(server, tables)
        best = timed(folder, ("--evidence=bench", "-m", "probe"), rounds, {"TENANTPROOF_BENCH_DSN": dsn})
    one, two, limits = best["0"], best["2"], Limits()
    sys.stdout.write(f"{tables} tables beside the reference product's, every identity, every attack\n")
    sys.stdout.write(f"attack: one process {one.attack:.1f} s, two {two.attack:.1f} s; all {one.whole:.1f} s\n")
    limits.at_least("what two processes gain on the attack", one.attack / two.attack, 1.6, " x")
    limits.at_least("what they gain on the whole command", one.whole / two.whole, 1.6, " x")
    limits.at_most("whole command of two processes", two.whole, 60, " s")
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
