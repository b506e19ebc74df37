"""Catalog and static controls on 2,000 tenant tables, against pg_dump --schema-only: `python -m bench.scale [tables]`.

Best of three each, in one run on one server, so that the ratios travel: snapshot and controls inside the process
(at most 1.0), and the whole command from start-up to the signed bundle (at most 3.0, and 300 MB).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from bench._limits import Limits
from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.config import Settings, load_settings
from pytest_tenantproof.controls.judge import judge, static_ids
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start

_TARGET = """
[tenantproof.targets.bench]
class = "staging"
signing = "optional"
"""
_TABLES = """
DO $$
DECLARE parent text;
BEGIN
    FOR n IN 1..{tables} LOOP
        parent := CASE WHEN n % 10 = 1 THEN NULL ELSE format('public.t%s', n - 1) END;
        EXECUTE format('CREATE TABLE public.t%1$s (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL REFERENCES public.tenants (id),
            t%2$s_id uuid NOT NULL, name text NOT NULL CHECK (name <> %3$L), amount numeric NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (tenant_id, id), UNIQUE (tenant_id, name))',
            n, n - 1, '');
        IF parent IS NULL THEN
            EXECUTE format('ALTER TABLE public.t%s DROP COLUMN t%s_id', n, n - 1);
        ELSE
            EXECUTE format('ALTER TABLE public.t%s ADD FOREIGN KEY (tenant_id, t%s_id) REFERENCES %s (tenant_id, id)
                ON DELETE RESTRICT', n, n - 1, parent);
        END IF;
        EXECUTE format('ALTER TABLE public.t%s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', n);
        EXECUTE format('CREATE POLICY reads ON public.t%s FOR SELECT TO authenticated
            USING (tenant_id = (SELECT app.current_tenant_id()))', n);
        EXECUTE format('CREATE POLICY writes ON public.t%s FOR ALL TO authenticated
            USING (tenant_id = (SELECT app.current_tenant_id()))
            WITH CHECK (tenant_id = (SELECT app.current_tenant_id()))', n);
        EXECUTE format('CREATE TRIGGER refuse_tenant_change BEFORE UPDATE ON public.t%s
            FOR EACH ROW EXECUTE FUNCTION app.refuse_tenant_change()', n);
        EXECUTE format('ALTER TABLE public.t%s ENABLE ALWAYS TRIGGER refuse_tenant_change', n);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON public.t%s TO authenticated, service_role', n);
        EXECUTE format('ALTER TABLE public.t%s OWNER TO app_owner', n);
        IF n % 200 = 0 THEN COMMIT; END IF;
    END LOOP;
END
$$;
"""


class Counting(psycopg.Connection[Any]):
    asked = 0

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        self.asked += 1
        return super().execute(query, params, **options)


def build(server: EmbeddedPostgres, tables: int) -> str:
    """A database with the reference product and so many tables more; returns the DSN."""
    name = f"tables_{tables}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    apply(server.dsn(name), migrations_folder())
    with psycopg.connect(server.dsn(name), autocommit=True) as connection:
        connection.execute(_TABLES.format(tables=tables).encode())
        connection.execute("ANALYZE")
    return server.dsn(name)


def queries(dsn: str) -> int:
    """How many statements a snapshot takes."""
    with Counting.connect(dsn, autocommit=True) as connection:
        read_snapshot(connection)
        return connection.asked


def inside(dsn: str, settings: Settings) -> tuple[float, float, list[str]]:
    """Seconds for the snapshot and for the controls, and the ids of those that are not green."""
    began = time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as connection:
        catalog = Catalog(read_snapshot(connection), settings)
    read = time.monotonic()
    results = [judge(control_id, catalog) for control_id in static_ids()]
    ended = time.monotonic()
    green = (Outcome.PASSED, Outcome.NOT_APPLICABLE)
    return read - began, ended - read, [r.control for r in results if r.outcome not in green]


def command(dsn: str, folder: Path) -> tuple[float, float]:
    """Seconds and MB (peak resident) of a whole run up to the signed bundle."""
    # The test suite's plugins are nothing that a user of this one has.
    arguments = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-q"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*arguments, "--evidence=bench", "-m", "invariant or rls"],
        cwd=folder,
        env=os.environ | {"TENANTPROOF_BENCH_DSN": dsn, "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
    said = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    took = time.monotonic() - began
    if status != 0 or "verdict: PROVEN" not in said:
        raise SystemExit(f"the run was not proven:\n{said[-3000:]}")
    return took, usage.ru_maxrss / 1024


def dump(dsn: str) -> float:
    began = time.monotonic()
    subprocess.run([find_bin(18).path / "pg_dump", "--schema-only", dsn], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def main() -> int:
    tables = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    settings = {"max_locks_per_transaction": "512", "shared_buffers": "256MB"}
    with start(find_bin(18), settings=settings) as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tenantproof.toml").write_text((Path(__file__).parents[1] / "tenantproof.toml").read_text() + _TARGET)
        dsn = build(server, tables)
        asked = (queries(build(server, 10)), queries(dsn))
        dumps, runs, commands = [], [], []
        for _ in range(3):
            dumps.append(dump(dsn))
            runs.append(inside(dsn, load_settings(folder / "tenantproof.toml")))
            commands.append(command(dsn, folder))
    base = min(dumps)
    read, judged, red = min(runs, key=lambda run: run[0] + run[1])
    took, memory = min(commands)
    limits = Limits()
    sys.stdout.write(f"{tables} tenant tables, pg_dump --schema-only {base:.2f} s\n")
    sys.stdout.write(f"against it: snapshot {read / base:.2f} x, static controls {judged / base:.2f} x\n")
    limits.at_most("snapshot and static controls", (read + judged) / base, 1.0, " x")
    limits.at_most("whole command, start-up to signed bundle", took / base, 3.0, " x")
    limits.at_most("its memory", memory, 300, " MB")
    limits.at_most(f"statements for a snapshot, beyond the {asked[0]} of 10 tables", asked[1] - asked[0], 0)
    sys.stdout.write(f"not green, as the generated tables have no audit triggers: {', '.join(red) or 'none'}\n")
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
