"""Every fault of every control on clones of the reference schema: `python -m bench.prove [rounds]`.

The whole command, from start-up to the signed bundle, is to take at most 90 seconds, and two processes are to prove at
least 1.6 times as fast as one. Both in one run, in turn, best of three, so that the ratio travels.
"""

import sys
from pathlib import Path

from bench._limits import Limits
from bench._runs import timed

_ROOT = Path(__file__).parents[1]


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    proven = timed(_ROOT, ("--evidence=embedded", "--prove"), rounds, {})
    plain = timed(_ROOT, ("--evidence=embedded",), rounds, {})
    one, two = (proven[n].whole for n in "02")
    more, less = (proven[n].whole - plain[n].whole for n in "02")
    limits = Limits()
    sys.stdout.write(f"evidence with --prove: one process {one:.1f} s, two {two:.1f} s: {one / two:.2f} x as fast\n")
    sys.stdout.write(f"what --prove adds to it: one process {more:.1f} s, two {less:.1f} s\n")
    limits.at_least("what two processes gain on that", more / less, 1.6, " x")
    limits.at_most("evidence with --prove, one process", one, 90, " s")
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
