"""What audit triggers cost: no audit, the shipped log, and a row-level-trigger log of the same content, in one run.

`python -m bench.audit` prints ratios of medians against the unaudited table; seconds don't travel, ratios do. Beside
the clock's stand those of CPU (the server's process and this one), which a busy machine distorts less.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg

from bench._cpu import cpu
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import find_bin, start

ROWS = 100_000
SINGLES = 1_000
LIMITS = {"bulk insert": 1.8, "bulk update": 3.0, "single insert": 1.6}
_ROW_LEVEL = """
CREATE FUNCTION tenantproof.audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    image jsonb := CASE WHEN tg_op = 'DELETE' THEN to_jsonb(old) ELSE to_jsonb(new) END;
    former jsonb := CASE WHEN tg_op = 'UPDATE' THEN to_jsonb(old) END;
BEGIN
    INSERT INTO public.audit_events (tenant_id, actor, actor_source, database_role, table_schema, table_name,
        operation, row_count, key_columns, keys, changed, request_id)
    SELECT (image ->> tg_argv[0])::uuid, a.actor, a.source, a.who, tg_table_schema, tg_table_name,
        tg_op::public.audit_operation, 1,
        tg_argv[1:], ARRAY[image ->> tg_argv[1]],
        CASE WHEN tg_op = 'UPDATE' THEN ARRAY(SELECT e.key FROM jsonb_each(image) e
                                              WHERE former -> e.key IS DISTINCT FROM e.value) END,
        nullif(current_setting('app.request_id', true), '')
    FROM tenantproof.actor(tg_relid, tg_op) a;
    RETURN NULL;
END
$$;
ALTER FUNCTION tenantproof.audit_row() OWNER TO tenantproof_audit;
CREATE TRIGGER audit_row AFTER INSERT OR UPDATE OR DELETE ON public.messages
    FOR EACH ROW EXECUTE FUNCTION tenantproof.audit_row('tenant_id', 'id');
"""
_OFF = "".join(
    f"DROP TRIGGER {name} ON public.messages;"
    for name in ("audit_insert", "audit_update", "audit_delete", "audit_truncate", "refuse_key_change")
)
VARIANTS = {"none": _OFF, "statement": "", "row": _OFF + _ROW_LEVEL}
_INSERT = """
INSERT INTO public.messages (tenant_id, development_id, unit_id, author, body)
SELECT u.tenant_id, u.development_id, u.id, 'resident', 'The heating is off again.'
FROM public.units u, generate_series(1, {each})
"""
_SINGLE = """
INSERT INTO public.messages (tenant_id, development_id, unit_id, author, body) VALUES (%s, %s, %s, %s, %s)
"""


Taken = dict[str, dict[str, list[tuple[float, float]]]]
"""Seconds by variant and operation: by the clock, and of CPU."""


def _timed(pid: int, action: Callable[[], Any]) -> tuple[float, float]:
    begun, used = time.perf_counter(), cpu(pid)
    action()
    return time.perf_counter() - begun, cpu(pid) - used


def _round(connection: psycopg.Connection[Any], unit: tuple[Any, ...]) -> dict[str, tuple[float, float]]:
    pid = connection.info.backend_pid
    insert = _INSERT.format(each=ROWS // 320).encode()
    update = b"UPDATE public.messages SET body = 'Mended.' WHERE id IN (SELECT id FROM public.messages LIMIT 100000)"

    def singles() -> None:
        for _ in range(SINGLES):
            connection.execute(_SINGLE, (*unit, "resident", "The heating is off again."), prepare=True)

    return {
        "bulk insert": _timed(pid, lambda: connection.execute(insert)),
        "bulk update": _timed(pid, lambda: connection.execute(update)),
        "single insert": _timed(pid, singles),
    }


def measure(rounds: int = 3) -> Taken:
    """The variants take turns, on databases of the same server."""
    taken: Taken = {name: {} for name in VARIANTS}
    with start(find_bin(18)) as server:
        apply(server.dsn(), migrations_folder())
        load_demo(server.dsn())
        for name, change in VARIANTS.items():
            with psycopg.connect(server.dsn("template1"), autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE bench_{name} TEMPLATE postgres".encode())
            with psycopg.connect(server.dsn(f"bench_{name}"), autocommit=True) as connection:
                connection.execute((change or "SELECT 1").encode())
        for _ in range(rounds):
            for name in VARIANTS:
                with psycopg.connect(server.dsn(f"bench_{name}"), autocommit=True) as connection:
                    connection.execute("CHECKPOINT")
                    unit = connection.execute("SELECT tenant_id, development_id, id FROM public.units").fetchone()
                    for what, seconds in _round(connection, unit or ()).items():
                        taken[name].setdefault(what, []).append(seconds)
    return taken


def _ratios(taken: Taken, which: int) -> dict[str, dict[str, float]]:
    def median(name: str, what: str) -> float:
        return statistics.median(pair[which] for pair in taken[name][what])

    return {
        what: {name: round(median(name, what) / median("none", what), 2) for name in ("statement", "row")}
        for what in taken["none"]
    }


def main() -> int:
    """Prints the ratios as JSON. Exit status 1 when a limit is exceeded or row-level triggers win on bulk."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    taken = measure(parser.parse_args().rounds)
    ratios = _ratios(taken, 0)
    late = [what for what, most in LIMITS.items() if ratios[what]["statement"] > most]
    late += [what for what, by in ratios.items() if "bulk" in what and by["statement"] >= by["row"]]
    cpu_ratios = _ratios(taken, 1)
    print(json.dumps({"ratios": ratios, "cpu": cpu_ratios, "limits": LIMITS, "exceeded": sorted(set(late))}, indent=2))
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
