"""A change of the catalog between two runs is reported by the next one, once, with what kind it was."""

from pathlib import Path

import psycopg

from pytest_tenantproof.target import EmbeddedPostgres
from tests.plugin.conftest import Run
from tests.plugin.test_runs import newest


def test_a_change_since_the_last_evidence_fires_once(run: Run, tmp_path: Path, product: EmbeddedPostgres) -> None:
    def changed() -> set[str]:
        run("--evidence=staging", "-m", "canary")
        _, report = newest(tmp_path, "staging")
        return {f["object"] for c in report["controls"] if c["id"] in ("TP809", "TP810") for f in c["findings"]}

    with psycopg.connect(product.dsn(), autocommit=True) as connection:
        assert [changed(), changed()] == [set(), set()]
        connection.execute("GRANT SELECT ON public.tenants TO anon")
        try:
            assert [changed(), changed()] == [{"catalog", "catalog.grants"}, set()]
        finally:
            connection.execute("REVOKE SELECT ON public.tenants FROM anon")
