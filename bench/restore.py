"""Speed of a whole restore beside `pg_restore -j2` of the same data, as the median of ratios within one run.

    python -m bench.restore [--messages 1000000] [--tenants 1000] [--rounds 3]

Both fill a new database of the same embedded Postgres 18, with two processes and every foreign key validated. Ours
starts from the encrypted backup in a folder, with signature, checksums and decryption; what it compares afterwards is
timed apart, since pg_restore compares nothing. Theirs starts from `pg_dump -Fc` in the same folder.
"""

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench._limits import Limits
from bench.backup import seeded
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.backup import BackupRequest, StoreSpec, open_store, run_backup
from pytest_tenantproof.backup.crypto import BackupKeypair, new_keypair
from pytest_tenantproof.backup.restore import open_source, rebuild
from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.backup import BackupSettings
from pytest_tenantproof.target import EmbeddedPostgres


@contextlib.contextmanager
def empty(server: EmbeddedPostgres) -> Iterator[str]:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE copy TEMPLATE template0")
        admin.execute("CHECKPOINT")
        try:
            yield server.dsn("copy")
        finally:
            admin.execute("DROP DATABASE copy WITH (FORCE)")


def require_whole(dsn: str, messages: int) -> None:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM public.messages),"
            " (SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated)"
        ).fetchone()
    assert row == (messages, 3), row


class Ours:
    def __init__(self, server: EmbeddedPostgres, folder: Path) -> None:
        self.store, self.pair, self.signer = StoreSpec(folder.as_uri()), new_keypair(), Signer(new_seed())
        self.settings = Settings(backup=BackupSettings(recipients=(self.pair.recipient.text,), workers=2))
        request = BackupRequest(
            target="bench",
            dsn=server.dsn(),
            settings=self.settings,
            store=self.store,
            key_store=self.store,
            signer=self.signer,
            now=datetime.now(UTC),
        )
        self.run = run_backup(request).run

    def restore(self, dsn: str) -> tuple[float, float]:
        """(seconds to a database with every constraint validated, seconds of the comparison behind it)."""
        pair: BackupKeypair = self.pair
        begun = time.perf_counter()
        store = open_store(self.store)
        source = open_source(store, store, self.run, {self.signer.key_id: self.signer.public}, pair)
        made = rebuild(dsn, source, self.settings)
        compared = made.seconds["comparison"]
        return time.perf_counter() - begun - compared, compared


def pg_restore(server: EmbeddedPostgres, dump: Path, dsn: str) -> float:
    begun = time.perf_counter()
    subprocess.run([server.bin.path / "pg_restore", "-j2", "-d", dsn, dump], check=True)
    return time.perf_counter() - begun


def compare(messages: int, tenants: int, rounds: int) -> int:
    with seeded(messages, tenants) as server, tempfile.TemporaryDirectory() as temporary:
        ours = Ours(server, Path(temporary) / "ours")
        dump = Path(temporary) / "dump"
        subprocess.run([server.bin.path / "pg_dump", "-Fc", "-f", dump, "-d", server.dsn()], check=True)
        times: list[tuple[float, float, float]] = []
        for _ in range(rounds):
            with empty(server) as dsn:
                mine, compared = ours.restore(dsn)
                require_whole(dsn, messages)
            with empty(server) as dsn:
                theirs = pg_restore(server, dump, dsn)
                require_whole(dsn, messages)
            times.append((mine, compared, theirs))
            print(f"ours {mine:.2f} s (+ {compared:.2f} s comparison), pg_restore -j2 {theirs:.2f} s", flush=True)
        ratio = statistics.median(theirs / mine for mine, _, theirs in times)
        compared = statistics.median(t[1] for t in times)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{messages:,} messages, {tenants:,} tenants, {rounds} rounds")
        print(f"the comparison takes {compared:.2f} s more, memory {memory:.0f} MB at most")
        limits = Limits()
        limits.at_least("restore, as fast as pg_restore -j2", ratio, 1.3, " x")
        return limits.status()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    return compare(given.messages, given.tenants, given.rounds)


if __name__ == "__main__":
    sys.exit(main())
