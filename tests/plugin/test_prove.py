"""`--prove` on a target: every fault is tried on a clone, and a control that misses one is an error."""

from pathlib import Path
from typing import Any

import psycopg

from pytest_tenantproof.target import EmbeddedPostgres
from tests.plugin.conftest import CONFIG, Run
from tests.plugin.test_runs import newest

OWN = """
ALSO = ("TP201", "TP812")
from pytest_tenantproof import Severity, control, falsified_by

@control("ACME101", title="Sees nothing", severity=Severity.LOW, requirement="A1", maps=None)
@falsified_by("ALTER TABLE {{tenant_table}} DISABLE ROW LEVEL SECURITY")
def check_nothing(catalog, findings):
    '''Looks at nothing at all.'''

@control("ACME102", title="Sees all", severity=Severity.LOW, requirement="A1", maps=None)
@falsified_by("ALTER TABLE {{tenant_table}} DISABLE ROW LEVEL SECURITY")
@falsified_by("ALTER TABLE no_such_table DISABLE ROW LEVEL SECURITY")
@falsified_by("ALTER TABLE {{no_such_placeholder}} DISABLE ROW LEVEL SECURITY")
def check_all(catalog, findings):
    '''Row security is on.'''
    for table in catalog.tenant_tables:
        if not table.row_security:
            findings.add(table, "is open")

@control("ACME104", title="Breaks more than it says", severity=Severity.LOW, requirement="A1", maps=None)
@falsified_by("ALTER TABLE {{tenant_table}} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY", also=ALSO)
def check_forced(catalog, findings):
    '''Row security is forced.'''
    for table in catalog.tenant_tables:
        if not table.row_security_forced:
            findings.add(table, "is not forced")

@control("ACME103", title="Always red", severity=Severity.LOW, requirement="A1", maps=None)
@falsified_by("SELECT 1")
def check_red(catalog, findings):
    '''A finding that is there without the fault proves nothing, and blames nobody.'''
    findings.add("x.y", "is wrong")
"""


def falsified(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {control["id"]: control["falsified"] for control in report["controls"]}


def test_every_fault_is_detected_on_a_clone_and_the_target_is_untouched(
    run: Run,
    tmp_path: Path,
    product: EmbeddedPostgres,
) -> None:
    done = run("--evidence=staging", "-m", "invariant or rls", "--prove", "-n", "2")
    assert done.returncode == 0, done.stdout[-3000:]
    _, report = newest(tmp_path, "staging")
    found = falsified(report)
    assert all(f["detected"] == f["faults"] for f in found.values())
    assert sum(f["faults"] for f in found.values()) > 90
    assert {i: f["others"] for i, f in found.items() if f["others"]} == {}
    # TP114's fault needs a reference without a foreign key, of which this schema has none.
    assert {i for i, f in found.items() if f["outcome"] != "passed"} == {"TP114"}
    assert report["prove"] == {"notes": []}
    assert "faults injected into a clone" in done.stdout
    with psycopg.connect(product.dsn()) as connection:
        forced = connection.execute("SELECT bool_and(relforcerowsecurity) FROM pg_class WHERE relname = 'messages'")
        assert forced.fetchone() == (True,)


def test_a_control_that_misses_its_fault_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("{{", "{").replace("}}", "}"))
    (tmp_path / "tenantproof.toml").write_text(CONFIG.replace("[tenantproof]", '[tenantproof]\ncontrols = ["own.py"]'))
    done = run("--evidence=staging", "-k", "ACME", "--prove")
    assert done.returncode == 2, done.stdout
    _, report = newest(tmp_path, "staging")
    outcome = {
        c["id"]: (c["outcome"], c["falsified"]["faults"], c["falsified"]["detected"]) for c in report["controls"]
    }
    assert outcome == {
        "ACME101": ("error", 1, 0),
        "ACME102": ("passed", 1, 1),
        "ACME103": ("failed", 0, 0),
        "ACME104": ("passed", 1, 1),
    }
    assert falsified(report)["ACME104"]["others"] == ["TP203"]
    reason = falsified(report)["ACME102"]["reason"]
    assert falsified(report)["ACME102"]["outcome"] == "not_run"
    assert "not run  ACME102  2 of 3 faults not tried" in done.stdout
    page = (newest(tmp_path, "staging")[0] / "report.html").read_text()
    assert '<span class="mark not_run">not run</span>' in page.partition('id="prove"')[2].partition("</table>")[0]
    assert "2 of 3 faults not tried" in reason
    assert "42P01" in reason
    assert "nothing of the kind" in reason
