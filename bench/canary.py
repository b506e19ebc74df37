"""Canaries on many messages: `python -m bench.canary [--messages 10000000] [--units 100000]`.

One run on one server, so that the ratios travel: every canary's full pass against a sequential count of the messages
(at most 3.00), and the pass of new rows alone (under 2 seconds). The best of three of each, by the role that watches,
without parallel workers. An audit event for every tenth message is there, too.
"""

import argparse
import sys
import time
from typing import Any

import psycopg

from bench._limits import Limits
from pytest_tenantproof.canary import Readings, measure
from pytest_tenantproof.canary.record import record_readings
from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import find_bin, rolled_back, start
from tests.support import reference_settings

_SERVER = {"shared_buffers": "1GB", "max_wal_size": "8GB", "maintenance_work_mem": "512MB"}
_TENANTS = """
INSERT INTO tenants (id, slug, name) SELECT gen_random_uuid(), 't' || i, 'Tenant ' || i FROM generate_series(1, 1000) i;
INSERT INTO developments (id, tenant_id, name)
    SELECT gen_random_uuid(), t.id, 'Development ' || i FROM tenants t, generate_series(1, 4) i;
INSERT INTO units (id, tenant_id, development_id, label)
    SELECT gen_random_uuid(), d.tenant_id, d.id, 'Unit ' || i FROM developments d, generate_series(1, {units} / 4000) i;
CREATE TEMP TABLE numbered AS SELECT row_number() OVER (ORDER BY id) - 1 AS n, * FROM units;
CREATE UNIQUE INDEX ON numbered (n);
"""
# A message every 8 seconds, of units in no order.
_MESSAGES = """
INSERT INTO messages (id, tenant_id, development_id, unit_id, author, body, created_at)
    SELECT gen_random_uuid(), u.tenant_id, u.development_id, u.id, 'resident',
           'The lift is out of order again, please send somebody today. ' || i,
           now() - make_interval(secs => ({messages} - i) * 8)
    FROM generate_series(1, {messages}) i JOIN numbered u ON u.n = (i::bigint * 7919) % {units};
INSERT INTO audit_events (at, tenant_id, actor, actor_source, database_role, table_schema, table_name, operation,
                          row_count, key_columns)
    SELECT now() - make_interval(secs => ({messages} - i * 10) * 0.3), u.tenant_id, 'x', 'role', 'x', 'public',
           'messages', (CASE WHEN i % 9 = 0 THEN 'DELETE' ELSE 'INSERT' END)::audit_operation, 1, '{{id}}'
    FROM generate_series(1, {messages} / 10) i JOIN numbered u ON u.n = i % {units};
"""
_KEYS = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'messages'::regclass AND contype IN ('p', 'u')
"""


def load(connection: psycopg.Connection[Any], messages: int, units: int) -> None:
    """The messages without their triggers and keys, and then the keys: an hour becomes minutes."""
    connection.execute("ALTER TABLE messages DISABLE TRIGGER ALL; SET session_replication_role = replica")
    connection.execute(_TENANTS.format(units=units).encode())
    keys = connection.execute(_KEYS).fetchall()
    for name, _ in keys:
        connection.execute(f"ALTER TABLE messages DROP CONSTRAINT {name}".encode())
    connection.execute(_MESSAGES.format(messages=messages, units=units).encode())
    for name, definition in keys:
        connection.execute(f"ALTER TABLE messages ADD CONSTRAINT {name} {definition}".encode())
    connection.execute("RESET session_replication_role; ALTER TABLE messages ENABLE TRIGGER ALL")
    connection.execute("VACUUM ANALYZE")


def count(connection: psycopg.Connection[Any]) -> float:
    """Seconds for a sequential count of the messages."""
    with rolled_back(connection):
        connection.execute("SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_indexscan = off")
        connection.execute("SET LOCAL enable_bitmapscan = off")
        began = time.monotonic()
        connection.execute("SELECT count(*) FROM messages")
        return time.monotonic() - began


def watch(connection: psycopg.Connection[Any], catalog: Catalog) -> tuple[float, Readings]:
    """Seconds for a pass of all canaries, and what they read."""
    with rolled_back(connection):
        connection.execute("SET LOCAL ROLE tenantproof_auditor")
        began = time.monotonic()
        readings = measure(connection, catalog, None, "bench")
        return time.monotonic() - began, readings


def _clean(readings: Readings) -> None:
    problems = {canary: problem for canary, problem in readings.problems.items() if canary not in ("TP807", "TP808")}
    if problems or any(r.value for r in readings.taken if r.canary in ("TP801", "TP802", "TP803")):
        raise SystemExit(f"the canaries did not see what is there: {problems} {readings.taken}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--units", type=int, default=100_000)
    options = parser.parse_args()
    with start(find_bin(18), settings=_SERVER) as server:
        apply(server.dsn(), migrations_folder())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            load(connection, options.messages, options.units)
            connection.execute("SET max_parallel_workers_per_gather = 0")
            catalog = Catalog(read_snapshot(connection), reference_settings())
            counts, whole, newer = [], [], []
            for _ in range(3):
                counts.append(count(connection))
                took, readings = watch(connection, catalog)
                whole.append(took)
                if not readings.whole:
                    raise SystemExit("the full pass was none")
                _clean(readings)
            record_readings(connection, "bench", readings)
            connection.execute("UPDATE canary_runs SET whole = true")  # drills and backups are recorded nowhere here
            for _ in range(3):
                took, readings = watch(connection, catalog)
                newer.append(took)
                if readings.whole:
                    raise SystemExit("the pass of new rows was a whole one")
                _clean(readings)
    base, limits = min(counts), Limits()
    sys.stdout.write(f"{options.messages} messages of {options.units} units: a sequential count takes {base:.2f} s\n")
    limits.at_most("full pass of all canaries, against it", min(whole) / base, 3.0, " x")
    limits.at_most("pass of new rows", min(newer), 2.0, " s")
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
