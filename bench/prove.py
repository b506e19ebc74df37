"""Every fault of every control on clones of the reference schema: `python -m bench.prove [rounds]`.

The whole command, from start-up to the signed bundle, with one process and with two: at most 90 seconds, and two
at least 1.6 times as fast. Both in one run, in turn, best of three, so that the ratio travels.
"""

import sys
from pathlib import Path

from bench._runs import timed

_ROOT = Path(__file__).parents[1]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    whole = timed(_ROOT, ("--evidence=embedded", "--prove"), rounds, {})
    plain = timed(_ROOT, ("--evidence=embedded",), rounds, {})
    added = {workers: whole[workers] - plain[workers] for workers in whole}
    lines = (
        f"evidence with --prove: one process {whole['0']:.1f} s, two {whole['2']:.1f} s (at most 90 s):"
        f" {whole['0'] / whole['2']:.2f} times as fast",
        f"what --prove adds: one process {added['0']:.1f} s, two {added['2']:.1f} s:"
        f" {added['0'] / added['2']:.2f} times as fast (at least 1.6)",
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
