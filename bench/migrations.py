"""What 001 locks, how strongly and for how long, on five million messages: `python -m bench.migrations [rows]`.

A second session looks at pg_locks every 5 ms, so a time is right to about that. The table in docs/MIGRATIONS.md is
this program's output.
"""

import sys
import threading
import time

import psycopg

from pytest_tenantproof.migrate import migrations_folder
from pytest_tenantproof.target import find_bin, start

_MODES = {
    "AccessExclusiveLock": "nobody reads or writes",
    "ShareRowExclusiveLock": "nobody writes",
    "ShareLock": "nobody writes",
    "ShareUpdateExclusiveLock": "no second VACUUM or ALTER",
}
_ROWS = """
INSERT INTO auth.users (id) SELECT md5('u' || n)::uuid FROM generate_series(1, 1000) n;
INSERT INTO public.tenants (id, slug, name) SELECT md5('t' || n)::uuid, 't' || n, 'T' FROM generate_series(1, 1000) n;
INSERT INTO public.tenant_members (tenant_id, user_id)
SELECT md5('t' || n)::uuid, md5('u' || n)::uuid FROM generate_series(1, 1000) n;
INSERT INTO public.developments (id, tenant_id, name)
SELECT md5('d' || n)::uuid, md5('t' || (n - 1) / 4 + 1)::uuid, 'D' FROM generate_series(1, 4000) n;
INSERT INTO public.units (id, tenant_id, development_id, label)
SELECT md5('n' || n)::uuid, md5('t' || (n - 1) / 80 + 1)::uuid, md5('d' || (n - 1) / 20 + 1)::uuid, 'L' || n
FROM generate_series(1, 80000) n;
INSERT INTO public.messages (tenant_id, development_id, unit_id, author, body)
SELECT u.tenant_id, u.development_id, u.id, 'resident', 'The heating is off again; please send someone.'
FROM public.units u, generate_series(1, {each}) n;
"""
_TABLES = ("tenants", "developments", "units", "messages", "tenant_members", "onboarding_transactions", "auth.users")
_SEEN = """
SELECT relation::regclass::text, mode FROM pg_locks
WHERE pid = %s AND granted AND locktype = 'relation' AND relation >= 16384
"""


def measure(rows: int) -> tuple[float, dict[tuple[str, str], float]]:
    """Seconds that the migration took, and for each (table, mode) how long it was held."""
    folder, seen = migrations_folder(), dict[tuple[str, str], float]()
    with (
        start(find_bin(18), settings={"shared_buffers": "256MB", "max_wal_size": "4GB"}) as server,
        psycopg.connect(server.dsn(), autocommit=True) as connection,
    ):
        connection.execute((folder / "000_baseline.sql").read_bytes())
        connection.execute(_ROWS.format(each=rows // 80000).encode())
        connection.execute("VACUUM ANALYZE")
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(server.dsn(), connection.info.backend_pid, seen, done))
        watcher.start()
        began = time.monotonic()
        with connection.transaction():
            connection.execute((folder / "001_multi_tenant_hardening.sql").read_bytes())
        ended = time.monotonic()
        done.set()
        watcher.join()
    return ended - began, {key: ended - first for key, first in seen.items() if first < ended}


def _watch(dsn: str, pid: int, seen: dict[tuple[str, str], float], done: threading.Event) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not done.wait(0.005):
            now = time.monotonic()
            for table, mode in connection.execute(_SEEN, [pid]):
                seen.setdefault((table, mode), now)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    took, held = measure(rows)
    names = {table for table, _ in held if table.removeprefix("public.") in _TABLES}
    sys.stdout.write(f"{rows:,} messages: the whole transaction took {took:.2f} s\n\n")
    sys.stdout.write("| table | lock | held for, s | meanwhile |\n| --- | --- | --- | --- |\n")
    for table in sorted(names, key=lambda name: -max(s for (t, _), s in held.items() if t == name)):
        for mode, meanwhile in _MODES.items():
            if (seconds := held.get((table, mode))) is not None:
                shown = f"{seconds:.2f}" if seconds >= 0.01 else "< 0.01"
                sys.stdout.write(f"| {table} | {mode.removesuffix('Lock')} | {shown} | {meanwhile} |\n")


if __name__ == "__main__":
    main()
