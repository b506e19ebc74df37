"""9xx: what the evidence itself rests on."""

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import CHANGE
from pytest_tenantproof.migrate import Applied, Migration, Status
from pytest_tenantproof.model import Severity

_FIX = "tenantproof migrate --target T"
_FILE = Migration("001", "hardening", "", "")


@control(
    "TP913",
    title="Every migration was applied, as it is in the repository, and nothing else was",
    severity=Severity.HIGH,
    requirement="A1",
    maps=CHANGE,
)
@falsified_by(given={"migrations": Status("", (), (), (), ())})
@falsified_by(given={"migrations": Status("tenantproof", (), (_FILE,), (), ())})
@falsified_by(given={"migrations": Status("tenantproof", (), (), (_FILE,), ())})
@falsified_by(given={"migrations": Status("supabase", (), (), (), (Applied(1, "002", "by_hand", ""),))})
def test_migrations_are_applied(catalog: Catalog, migrations: Status, findings: Findings) -> None:
    """A hardening that was reviewed but never deployed, or edited after it was, protects nobody.

    The ledger (tenantproof.migrations, or Supabase's own) is compared with the files by number and checksum.
    Apply what is pending with `tenantproof migrate`; put a change to an applied file into a new migration.
    """
    if not catalog.settings.migrations:
        findings.not_applicable("the config says that the product keeps no SQL migrations")
    if not migrations.ledger:
        findings.add("tenantproof.migrations", "there is no ledger of migrations", fix=_FIX)
        return
    for pending in migrations.pending:
        findings.add(f"migration {pending.version}_{pending.name}", "is not applied", fix=_FIX)
    for edited in migrations.edited:
        findings.add(f"migration {edited.version}_{edited.name}", "was edited after it was applied")
    for missing in migrations.missing:
        findings.add(f"migration {missing.version}_{missing.name}", "was applied but is in no file")
