"""Many databases in one session: `python -m bench.fleet [databases] [marker]`, by default 50 and `invariant or rls`.

Each database is a copy of the reference product on one private server. A run of one alone (the best of three) is
compared with `pytest --evidence=db01,db02,... -n 2`, by database: wall time (on two idle cores it should come to half)
and processor time of the runs, which travels. Exit 1 where a bundle is missing, one is not proven, the roll-up does not
verify, or processor time is above 1.4 of the single run's (1.24 on a busy machine, where nothing runs alone).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from psycopg import sql

from pytest_tenantproof.attest import keys
from pytest_tenantproof.attest.bundle import bundles
from pytest_tenantproof.attest.rollup import verify_rollup
from pytest_tenantproof.config import environment_name
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start

_TARGET = '[tenantproof.targets.{}]\nclass = "staging"\nsigning = "required"\n'
_ALLOWED = 1.4


def copies(server: EmbeddedPostgres, count: int) -> dict[str, str]:
    """DSNs of so many databases with the reference product, by target."""
    apply(server.dsn(), migrations_folder())
    load_demo(server.dsn())
    found = {f"db{number:02}": server.dsn(f"db{number:02}") for number in range(1, count + 1)}
    with psycopg.connect(server.dsn("template1"), autocommit=True) as admin:
        for name in found:
            database = sql.Identifier(name)
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE postgres").format(database))
            admin.execute(sql.SQL("REVOKE CREATE, TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    return found


class Runner:
    """Runs pytest in a folder with a config and a key. Gives wall and processor seconds."""

    def __init__(self, folder: Path, dsns: dict[str, str], marker: str) -> None:
        self.folder, self.marker = folder, marker
        config = (Path(__file__).parents[1] / "tenantproof.toml").read_text()
        (folder / "tenantproof.toml").write_text(config + "".join(map(_TARGET.format, dsns)))
        private, self.public = keys.new_key(folder / "keys")
        self.environment = os.environ | {environment_name(name, "DSN"): dsn for name, dsn in dsns.items()}
        self.environment |= {keys.KEY_FILE_VARIABLE: str(private)}

    def __call__(self, targets: str, *more: str) -> tuple[float, float]:
        # The test suite's plugins are nothing that a user of this one has.
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
        command += [f"--evidence={targets}", "-m", self.marker, *more]
        wall, cpu = time.monotonic(), sum(os.times()[2:4])
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        wall, cpu = time.monotonic() - wall, sum(os.times()[2:4]) - cpu
        if done.returncode != 0:
            raise SystemExit(f"not proven:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        return wall, cpu


def main(count: int, marker: str) -> int:
    with start(find_bin(18)) as server, tempfile.TemporaryDirectory() as name:
        dsns = copies(server, count)
        run = Runner(Path(name), dsns, marker)
        single = [min(times) for times in zip(*(run("db01") for _ in range(3)), strict=True)]
        before = len(bundles(Path(name) / "evidence" / "db01"))
        wall, cpu = run(",".join(dsns), "-n", "2")
        root = Path(name) / "evidence"
        (rollup,) = (root / "fleet").glob("*.jsonl")
        predicate, found = verify_rollup(rollup, [keys.read_public(run.public)])
        whole = sorted(v.target for v in found) == sorted(dsns) and predicate["result"] == "PASSED"
        whole = whole and len(bundles(root / "db01")) == before + 1
    by_wall, by_cpu = wall / count / single[0], cpu / count / single[1]
    print(f"one alone: {single[0]:.2f} s, {single[1]:.2f} s of CPU")
    print(
        f"{count} by 2 workers: {wall:.1f} s, {cpu:.1f} s of CPU; by database {by_wall:.2f} x and {by_cpu:.2f} x of it"
    )
    print(f"{len(found)} bundles and the roll-up verify" if whole else "bundles or the roll-up are wrong")
    return int(not whole or by_cpu > _ALLOWED)


if __name__ == "__main__":
    given = [*sys.argv[1:], "50", "invariant or rls"]
    sys.exit(main(int(given[0]), given[1] if len(sys.argv) > 2 else given[-1]))
