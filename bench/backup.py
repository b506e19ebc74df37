"""Speed of a whole backup beside its peers, as medians of ratios within one run.

    python -m bench.backup [--messages 2000000] [--tenants 1000] [--rounds 3] [--small]

Every contender reads the same embedded Postgres 18 and writes to the same folder. Peers: `pg_dump | zstd -3 |
openssl enc` and `pg_dump | restic backup --stdin`; one that is not installed is left out, with a note. They make no
fingerprints of rows, so ours is timed without them as well.
`--small` compares 10,000 tenants with 10 over the same rows: as many developments, units and messages.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench._limits import Limits
from bench._runs import bytecode_kept
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.backup import BackupRequest, StoreSpec, run_backup
from pytest_tenantproof.backup.crypto import new_keypair
from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.backup import BackupSettings
from pytest_tenantproof.target import embedded

SCHEMA = """
CREATE TABLE tenants(id uuid PRIMARY KEY, slug text UNIQUE NOT NULL, name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE developments(id uuid PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (tenant_id, id));
CREATE TABLE units(id uuid PRIMARY KEY, tenant_id uuid NOT NULL, development_id uuid NOT NULL, label text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (tenant_id, development_id, id),
  FOREIGN KEY (tenant_id, development_id) REFERENCES developments(tenant_id, id));
CREATE TABLE messages(id uuid PRIMARY KEY, tenant_id uuid NOT NULL, development_id uuid NOT NULL,
  unit_id uuid NOT NULL, author text NOT NULL, body text NOT NULL, created_at timestamptz NOT NULL,
  UNIQUE (tenant_id, development_id, unit_id, id),
  FOREIGN KEY (tenant_id, development_id, unit_id) REFERENCES units(tenant_id, development_id, id));
"""
# Bodies are two of 60,000 sentences, each of random words, few of them frequent, as in what people write.
ROWS = """
SELECT setseed(0.5);
INSERT INTO tenants(id, slug, name)
  SELECT gen_random_uuid(), 't' || i, 'Tenant ' || i FROM generate_series(1, {t}) i;
INSERT INTO developments(id, tenant_id, name)
  SELECT gen_random_uuid(), t.id, 'Development ' || i FROM tenants t, generate_series(1, {d}) i;
INSERT INTO units(id, tenant_id, development_id, label)
  SELECT gen_random_uuid(), d.tenant_id, d.id, 'Unit ' || i FROM developments d, generate_series(1, {u}) i;
CREATE TEMP TABLE words AS
  SELECT i, translate(left(md5(i::text), 2 + (i * 7) % 8), '0123456789', 'ghijklmnop') AS word
  FROM generate_series(1, 3000) i;
CREATE TEMP TABLE sentences AS
  SELECT n, string_agg(word, ' ') AS text
  FROM (SELECT s AS n, 1 + floor(power(random(), 3) * 2999)::int AS i
        FROM generate_series(1, 60000) s, generate_series(1, 22) w WHERE w <= 14 + s % 9 OFFSET 0) chosen
  JOIN words USING (i) GROUP BY n;
CREATE INDEX ON sentences(n);
CREATE TEMP TABLE places AS SELECT *, row_number() OVER () AS place FROM units;
CREATE INDEX ON places(place);
ANALYZE sentences, places;
INSERT INTO messages
  SELECT gen_random_uuid(), u.tenant_id, u.development_id, u.id, 'author ' || m.i % 40,
    initcap(left(a.text, 1)) || substr(a.text, 2) || ', ' || b.text || '.',
    timestamptz '2026-01-01' + m.i * interval '37 seconds'
  FROM (SELECT i, 1 + floor(random() * (SELECT count(*) FROM places))::bigint AS place,
          1 + floor(random() * 60000)::int AS a, 1 + floor(random() * 60000)::int AS b
        FROM generate_series(1::bigint, {m}) i OFFSET 0) m
  JOIN places u ON u.place = m.place JOIN sentences a ON a.n = m.a JOIN sentences b ON b.n = m.b ORDER BY m.i;
"""


@contextlib.contextmanager
def seeded(messages: int, tenants: int, developments: int = 0) -> Iterator[embedded.EmbeddedPostgres]:
    """A server with so many messages. Two developments a tenant, or so many in all; up to ten units in each."""
    each = developments // tenants or 2
    settings = {"shared_buffers": "1GB", "max_wal_size": "8GB", "jit": "off"}
    with embedded.start(embedded.find_bin(18), settings=settings) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
            units = max(1, min(10, messages // tenants // each // 10))
            connection.execute(ROWS.format(t=tenants, d=each, u=units, m=messages).encode())
            connection.execute("VACUUM (FREEZE, ANALYZE)")
        yield server


def ours(server: embedded.EmbeddedPostgres, folder: Path, *, fingerprints: bool = False) -> None:
    store = StoreSpec(folder.as_uri())
    backup = BackupSettings(recipients=(new_keypair().recipient.text,), workers=2)
    run_backup(
        BackupRequest(
            target="bench",
            dsn=server.dsn(),
            settings=Settings(backup=backup),
            store=store,
            key_store=store,
            signer=Signer(new_seed()),
            now=datetime.now(UTC),
            fingerprints=fingerprints,
        )
    )


def fingerprinted(server: embedded.EmbeddedPostgres, folder: Path) -> None:
    ours(server, folder, fingerprints=True)


def _pipeline(server: embedded.EmbeddedPostgres, rest: str, folder: Path) -> None:
    folder.mkdir()
    dump = f"{server.bin.path / 'pg_dump'} -d '{server.dsn()}'"
    environment = os.environ | {"RESTIC_PASSWORD": "bench", "OUT": str(folder)}
    subprocess.run(["bash", "-o", "pipefail", "-c", f"{dump} | {rest}"], env=environment, check=True)


def zstd_openssl(server: embedded.EmbeddedPostgres, folder: Path) -> None:
    _pipeline(
        server, "zstd -q -3 | openssl enc -aes-256-ctr -pbkdf2 -pass pass:bench > $OUT/dump && sync $OUT/dump", folder
    )


def restic(server: embedded.EmbeddedPostgres, folder: Path) -> None:
    _pipeline(
        server,
        "{ restic -q -r $OUT/repo init > /dev/null && restic -q -r $OUT/repo backup --stdin; }",
        folder,
    )


def _timed(
    contender: Callable[[embedded.EmbeddedPostgres, Path], None], server: embedded.EmbeddedPostgres
) -> tuple[float, int]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "out"
        begun = time.perf_counter()
        contender(server, folder)
        seconds = time.perf_counter() - begun
        return seconds, sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def compare(messages: int, tenants: int, rounds: int, limits: Limits) -> None:
    peers = {
        "pg_dump|zstd -3|openssl": (zstd_openssl, ("zstd", "openssl"), 1.0),
        "pg_dump|restic": (restic, ("restic",), 1.6),
    }
    for name, (_, tools, _) in list(peers.items()):
        if missing := [tool for tool in tools if shutil.which(tool) is None]:
            print(f"note: {name} is left out, {', '.join(missing)} is not installed")
            del peers[name]
    with seeded(messages, tenants) as server:
        _timed(ours, server)
        contenders = {"ours": ours, "ours, with fingerprints": fingerprinted} | {n: p[0] for n, p in peers.items()}
        times: dict[str, list[float]] = {name: [] for name in contenders}
        sizes: dict[str, int] = {}
        for _ in range(rounds):
            for name, contender in contenders.items():
                seconds, sizes[name] = _timed(contender, server)
                times[name].append(seconds)
        print(f"{messages:,} messages, {tenants:,} tenants, {rounds} rounds")
        for name, taken in times.items():
            print(f"{name:26} {statistics.median(taken):6.2f} s  {sizes[name] / 1e6:7.1f} MB")
        for name, (_, _, least) in peers.items():
            ratios = [theirs / mine for theirs, mine in zip(times[name], times["ours"], strict=True)]
            limits.at_least(f"as fast as {name}", statistics.median(ratios), least, " x")
            limits.at_most(f"the size of {name}", sizes["ours"] / sizes[name], 1.0, " x")


def small_tenants(messages: int, rounds: int, limits: Limits) -> None:
    medians = {}
    for tenants in (10, 10_000):
        with seeded(messages, tenants, developments=20_000) as server:
            _timed(ours, server)
            medians[tenants] = statistics.median(_timed(ours, server)[0] for _ in range(rounds))
            print(f"{messages:,} messages, {tenants:,} tenants: {medians[tenants]:.2f} s")
    limits.at_most("10,000 tenants, against the time of 10", medians[10_000] / medians[10], 2.0, " x")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=2_000_000)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    given, limits = parser.parse_args(), Limits()
    with bytecode_kept():
        if given.small:
            small_tenants(given.messages, given.rounds, limits)
        else:
            compare(given.messages, given.tenants, given.rounds, limits)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
