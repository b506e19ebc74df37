"""What the tenant-scoped client costs, against plain psycopg doing the same select in a transaction, pooled.

    python -m bench.client [--rounds 200] [--rtt 0.5]

Both run on one embedded Postgres 18 with the demo data and name the tenant in the query; plain psycopg runs as a role
without row security. Both are measured with statements prepared on the connection (`prepare=True`, and psycopg's
default) and without, as behind a pooler that knows none. First over a Unix socket, where there is no network at all
and the overhead shows most, then through a relay that adds a round-trip time (milliseconds) as a database in another
zone has it; that is what the limit of 1.15 is for. Each line is the median of ratios of interleaved blocks, so that a
busy machine slows both; CPU is that of the calling thread and of the server's process together, where the machine
tells it (Linux).
"""

import argparse
import contextlib
import multiprocessing
import select
import socket
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool

from bench._cpu import cpu
from bench._limits import Limits
from pytest_tenantproof.client import TenantPool
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import find_bin, start

CONFIG = Path(__file__).parents[1] / "tenantproof.toml"
SELECTS = {
    "one unit by its key": "SELECT label FROM units WHERE tenant_id = %(t)s AND development_id = %(d)s AND id = %(u)s",
    "a unit's messages": "SELECT id, author, body, created_at FROM messages WHERE tenant_id = %(t)s"
    " AND development_id = %(d)s AND unit_id = %(u)s ORDER BY created_at DESC",
    "a page of 50, joined": "SELECT m.id, m.author, m.body, m.created_at, u.label FROM messages m JOIN units u"
    " ON u.tenant_id = m.tenant_id AND u.development_id = m.development_id AND u.id = m.unit_id"
    " WHERE m.tenant_id = %(t)s AND m.development_id = %(d)s ORDER BY m.created_at DESC LIMIT 50",
    "counts by unit": "SELECT u.label, count(*), max(m.created_at) FROM messages m JOIN units u"
    " ON u.tenant_id = m.tenant_id AND u.development_id = m.development_id AND u.id = m.unit_id"
    " WHERE m.tenant_id = %(t)s GROUP BY u.label ORDER BY 2 DESC",
}


def relay(listener: socket.socket, target: str, delay: float) -> None:
    """Passes bytes on, each way `delay` seconds late."""
    pairs: dict[socket.socket, socket.socket] = {}
    late: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        wait = max(0.0, late[0][0] - time.perf_counter()) if late else None
        ready, _, _ = select.select([listener, *pairs], [], [], wait)
        for source in ready:
            if source is listener:
                inner, outer = socket.socket(socket.AF_UNIX), listener.accept()[0]
                inner.connect(target)
                outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pairs |= {inner: outer, outer: inner}
            elif data := source.recv(1 << 16):
                late.append((time.perf_counter() + delay, pairs[source], data))
            else:
                for end in (source, pairs[source]):
                    pairs.pop(end, None)
        while late and late[0][0] <= time.perf_counter():
            _, sink, data = late.popleft()
            with contextlib.suppress(OSError):
                sink.sendall(data)


@contextlib.contextmanager
def relayed(dsn: str, rtt: float) -> Iterator[str]:
    """A DSN that leads to the same server with a round-trip time of `rtt` milliseconds; the same one for 0."""
    if not rtt:
        yield dsn
        return
    given = conninfo_to_dict(dsn)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"{given['host']}/.s.PGSQL.{given['port']}"
        process = multiprocessing.get_context("fork").Process(target=relay, args=(listener, target, rtt / 2000))
        process.start()
        try:
            yield make_conninfo("", **given | {"host": "127.0.0.1", "port": listener.getsockname()[1]})
        finally:
            process.terminate()
            process.join()


def timed(work: Callable[[], Any], times: int, pid: int) -> tuple[float, float]:
    """Seconds a call: by the clock, and of CPU."""
    begun, used = time.perf_counter(), cpu(pid)
    for _ in range(times):
        work()
    return (time.perf_counter() - begun) / times, (cpu(pid) - used) / times


def compare(dsn: str, values: dict[str, str], rounds: int, name: str, query: str, prepare: bool) -> float:
    """Prints a line; gives the ratio by the clock."""
    kwargs = {} if prepare else {"prepare_threshold": None}
    plain = ConnectionPool(dsn, min_size=1, max_size=1, open=True, kwargs=kwargs)
    scoped = TenantPool(make_conninfo(dsn, user="app_backend"), config=CONFIG, max_size=1, prepare=prepare)

    def by_hand() -> int:
        with plain.connection() as connection:
            return len(connection.execute(query.encode(), values).fetchall())

    def by_client() -> int:
        with scoped.tenant(values["t"], actor="user:42") as db:
            return len(db.execute(query, values))

    with plain, scoped:
        if by_hand() != by_client() or not by_hand():
            raise SystemExit(f"{name}: both must give the same rows")
        with plain.connection() as connection:
            one = connection.info.backend_pid
        other = scoped.execute("SELECT pg_backend_pid()")[0][0]
        timed(by_hand, 50, one), timed(by_client, 50, other)
        pairs = [(timed(by_hand, 10, one), timed(by_client, 10, other)) for _ in range(rounds)]
    clock, used = (statistics.median(b[n] / a[n] for a, b in pairs) for n in (0, 1))
    best = [min(pair[n][0] for pair in pairs) * 1e6 for n in (0, 1)]
    how = "prepared" if prepare else "unprepared"
    print(
        f"  {name:21} {how:10} {clock:5.2f} x, CPU {used:5.2f} x"
        f"  (fastest blocks {best[0]:5.0f} and {best[1]:5.0f} us: {best[1] / best[0]:5.2f} x)"
    )
    return clock


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--rtt", type=float, default=0.5, help="milliseconds")
    given, slowest = parser.parse_args(), 0.0
    with start(find_bin(18)) as server:
        apply(server.dsn(), migrations_folder())
        load_demo(server.dsn())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            row = connection.execute("SELECT tenant_id, development_id, id FROM units ORDER BY id LIMIT 1").fetchone()
        values = dict(zip("tdu", map(str, row or ()), strict=True))
        for rtt in (0.0, given.rtt):
            print(f"round-trip time {rtt} ms" if rtt else "Unix socket")
            with relayed(server.dsn(), rtt) as dsn:
                for prepare in (True, False):
                    for name, query in SELECTS.items():
                        ratio = compare(dsn, values, given.rounds // (4 if rtt else 1), name, query, prepare)
                        slowest = max(slowest, ratio) if rtt else slowest
    limits = Limits()
    limits.at_most(f"the dearest select with {given.rtt} ms of network", slowest, 1.15, " x")
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
