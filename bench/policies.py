"""Time to judge a large schema, as ratios to `pg_dump -s` of the same schema in the same run.

    python -m bench.policies [--tables 2000] [--rounds 3]

"judge" is every static control, policy proofs included, on a catalog that was read; "all" also reads it.
Half of the tables have a claim policy, a quarter a membership sub-select, a quarter a correlated one.
"""

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable

import psycopg

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge, static_ids
from pytest_tenantproof.target import find_bin, start
from tests.support import faults_settings, load_faults_base

CLAIM = "tenant_id = ((select auth.jwt() ->> 'tenant_id'))::uuid"
MEMBER = "tenant_id in (select m.tenant_id from public.memberships m where m.user_id = (select auth.uid()))"
CORRELATED = (
    "exists (select 1 from public.memberships m where m.tenant_id = {t}.tenant_id and m.user_id = (select auth.uid()))"
)
TABLE = """
create table public.{t} (id uuid primary key default gen_random_uuid(),
 tenant_id uuid not null references public.tenants(id) on delete restrict, parent_id uuid not null, label text not null,
 note text, amount numeric, created_at timestamptz not null default now(), unique (tenant_id, id),
 unique (tenant_id, label), check (length(label) < 200),
 foreign key (tenant_id, parent_id) references public.{parent} (tenant_id, id) on delete restrict);
alter table public.{t} owner to app_owner; alter table public.{t} enable row level security;
alter table public.{t} force row level security;
grant select, insert, update, delete on public.{t} to authenticated, service_role;
create policy {t}_read on public.{t} for select to authenticated using ({using});
create policy {t}_write on public.{t} for all to authenticated using ({using}) with check ({using});
create trigger {t}_freeze before update on public.{t} for each row execute function private.freeze_tenant();
alter table public.{t} enable always trigger {t}_freeze;
"""


def fill(dsn: str, tables: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for first in range(0, tables, 100):
            numbers = range(first, min(first + 100, tables))
            connection.execute("".join(map(_table, numbers)).encode())


def _table(number: int) -> str:
    name = f"scale_{number}"
    using = (CLAIM, MEMBER, CLAIM, CORRELATED)[number % 4].format(t=name)
    return TABLE.format(t=name, parent=f"scale_{number - 1}" if number % 10 else "units", using=using)


def timed(run: Callable[[], object]) -> float:
    started = time.monotonic()
    run()
    return time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    settings = faults_settings()
    with start(find_bin(18)) as server:
        dsn = load_faults_base(server)
        fill(dsn, given.tables)
        static_ids()  # imports the controls, which is no part of judging
        dump = [str(find_bin(18).path / "pg_dump"), "-s", "-f", "/dev/null", dsn]
        judged, everything, slowest = [], [], dict[str, float]()
        for _ in range(given.rounds):
            base = timed(lambda: subprocess.run(dump, check=True))
            started = time.monotonic()
            with psycopg.connect(dsn, autocommit=True) as connection:
                snapshot = read_snapshot(connection)
            read = time.monotonic() - started
            catalog = Catalog(snapshot, settings)
            results = [judge(i, catalog) for i in static_ids()]
            total = time.monotonic() - started
            judged.append((total - read) / base)
            everything.append(total / base)
            slowest = {r.control: r.duration_s for r in sorted(results, key=lambda r: -r.duration_s)[:5]}
            assert not [r for r in results if r.control == "TP204" and r.findings]
            print(f"pg_dump -s {base:.2f} s, read {read:.2f} s, judge {total - read:.2f} s")
    print(f"judge {statistics.median(judged):.2f} x, all {statistics.median(everything):.2f} x pg_dump -s")
    print("slowest: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in slowest.items()))
    return 0 if statistics.median(judged) <= 1.0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
