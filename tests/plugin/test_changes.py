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


def test_what_the_last_evidence_was_made_to_say_is_not_believed(run: Run, tmp_path: Path) -> None:
    """Whoever changes the catalog and can write to the folder would make the last report agree with it."""
    run("--evidence=staging", "-m", "canary")
    path, report = newest(tmp_path, "staging")
    text = (path / "report.json").read_text()
    (path / "report.json").write_text(text.replace(report["digests"]["catalog"], "0" * 64))
    done = run("--evidence=staging", "-m", "canary", "-n", "2")
    assert done.returncode == 2, done.stdout[-3000:]
    _, report = newest(tmp_path, "staging")
    told = {c["id"]: (c["outcome"], c["reason"]) for c in report["controls"]}
    assert {told["TP809"][0], told["TP810"][0]} == {"not_run"}
    assert "does not verify (subject-mismatch)" in told["TP809"][1]
