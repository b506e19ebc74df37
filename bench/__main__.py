"""Every benchmark in turn, each in a process of its own: `make bench`, or `python -m bench [name ...]` for some.

Takes about an hour on two cores. Ends with 1 when any of them failed.
"""

import subprocess
import sys
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
RUNS = {"backup": ((), ("--small",))}


def main(wanted: list[str]) -> int:
    if unknown := set(wanted) - set(NAMES):
        sys.stderr.write(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}\n")
        return 2
    failed = []
    for name in wanted or NAMES:
        sys.stdout.write(f"== {name}\n")
        sys.stdout.flush()
        commands = [[sys.executable, "-m", f"bench.{name}", *options] for options in RUNS.get(name, ((),))]
        statuses = [subprocess.run(command, check=False).returncode for command in commands]
        if any(statuses):
            failed.append(name)
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
