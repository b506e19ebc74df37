"""6xx: there is a recent backup, it is whole, elsewhere, and safe from those who write it."""

from datetime import UTC, datetime, timedelta

from pytest_tenantproof.backup.examine import Examined
from pytest_tenantproof.backup.inspect import Backups
from pytest_tenantproof.backup.recipients import all_recipients
from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.backup import BackupSettings
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._faulty import OLD, ONE, UNSAFE, faulty
from pytest_tenantproof.controls._maps import BACKUP
from pytest_tenantproof.model import Severity
from pytest_tenantproof.target import TargetInfo

_SKEW = timedelta(hours=1)


def _need_backup(backups: Backups, findings: Findings) -> None:
    if backups.examined.newest is None:
        findings.not_run("there is no verified backup to look at; see TP601")


@control(
    "TP601",
    title="The newest verified backup is recent",
    severity=Severity.CRITICAL,
    requirement="B1",
    maps=BACKUP,
)
@falsified_by(given=faulty())
def test_newest_backup_is_recent(backups: Backups, findings: Findings) -> None:
    """A backup that silently stopped is found out on the day it is needed.

    Only backups count whose manifest is signed by a trusted key and whose objects are all in place. Run
    `tenantproof backup` from a scheduler that alerts, and set TENANTPROOF_BACKUP_PING_URL.
    """
    newest, limit = backups.examined.newest, backups.settings.backup.max_age_hours
    if newest is None:
        findings.add(backups.store.url, "holds no verified backup", fix=f"tenantproof backup --target {backups.target}")
        return
    age = datetime.now(UTC) - newest.snapshot_at
    if age > timedelta(hours=limit):
        findings.add(newest.run, f"the newest verified backup is {age.total_seconds() / 3600:.0f} hours old")
    if age < -_SKEW:
        findings.add(newest.run, "the newest verified backup is dated in the future: a clock is wrong")


@control(
    "TP602",
    title="Every finished backup in the store verifies",
    severity=Severity.HIGH,
    requirement="B1",
    maps=BACKUP,
)
@falsified_by(given=faulty(examined=Examined((OLD,), ((OLD.run, "the manifest is refused"),))))
def test_backups_verify(backups: Backups, findings: Findings) -> None:
    """A manifest that no trusted key signed is a forgery, or nobody can tell it from one; a missing object is a
    backup that cannot be restored. Both are kept by retention for inquiry, and count as no backup."""
    for run, reason in backups.examined.refused:
        findings.add(run, reason)
    if not len(findings):
        _need_backup(backups, findings)


@control(
    "TP603",
    title="No private backup key is on the machine that backs up",
    severity=Severity.HIGH,
    requirement="B1",
    maps=BACKUP,
)
@falsified_by(given=faulty(private_keys=lambda: ("restore.backup.key",)))
def test_private_key_is_elsewhere(backups: Backups, findings: Findings) -> None:
    """Whoever takes the machine that backs up must not be able to read all backups: it needs public keys alone.

    The private key belongs on the machine that restores, and in escrow. A target that is `restorable` is where
    restores are made, and is not asked.
    """
    if backups.settings.target(backups.target).restorable:
        findings.not_applicable("restores are made here, and need the private key")
    for where in backups.private_keys():
        findings.add(where, "holds a private backup key", fix="move it to the machine that restores, and shred it here")


@control(
    "TP604",
    title="Backups withstand their own writer",
    severity=Severity.HIGH,
    requirement="B1",
    maps=BACKUP,
)
@falsified_by(given=faulty(capabilities=UNSAFE))
def test_store_is_write_once(backups: Backups, findings: Findings) -> None:
    """Ransomware deletes backups first. Found out by trying: a probe that is written as a backup would be must
    withstand deletion, bypassing what may be bypassed.

    Use a bucket with Object Lock, and set lock_mode and lock_days.
    """
    found = backups.capabilities
    if found.write_once is None:
        findings.not_run(f"{backups.store.url}: {found.detail}")
    if not found.write_once:
        findings.add(backups.store.url, f"is not write-once: {found.detail}")


@control(
    "TP605",
    title="The backup identity cannot delete backups or their keys",
    severity=Severity.MEDIUM,
    requirement="B1",
    maps=BACKUP,
)
@falsified_by(given=faulty(key_capabilities=UNSAFE))
def test_identity_cannot_delete(backups: Backups, findings: Findings) -> None:
    """Keys cannot be under Object Lock, or nobody could be erased: so whoever can delete them can destroy every
    backup. Give the job that backs up no right to delete, and run `tenantproof retention` and `erase` elsewhere.
    """
    for store, found in ((backups.store, backups.capabilities), (backups.key_store, backups.key_capabilities)):
        if found.can_delete is None:
            findings.not_run(f"{store.url}: {found.detail}")
        if found.can_delete:
            findings.add(store.url, "the identity that backs up may delete here")
        if found.versioned is False:
            findings.add(store.url, "keeps no versions, so that what is overwritten is lost")


@control(
    "TP606",
    title="Backups are on another host than the database",
    severity=Severity.CRITICAL,
    requirement="B1",
    maps=BACKUP,
)
@falsified_by(given=faulty(on_same_host=lambda: True))
def test_backups_are_elsewhere(backups: Backups, target: TargetInfo, findings: Findings) -> None:
    """The day the database's host is lost, a backup beside it is lost too. A folder counts as beside it."""
    if target.class_ != "live":
        findings.not_applicable("only a live target's backups must be elsewhere")
    _need_backup(backups, findings)
    if backups.on_same_host():
        findings.add(
            backups.store.url, "is a folder or on the database's own host", fix='store = "s3://..." or "b2://..."'
        )


@control(
    "TP607",
    title="At least two can read backups, one of them in escrow",
    severity=Severity.HIGH,
    requirement="B1",
    maps=BACKUP,
)
@falsified_by(given=faulty(settings=Settings(backup=BackupSettings(recipients=(ONE,)))))
def test_recipients(backups: Backups, findings: Findings) -> None:
    """With one private key, its loss is the loss of all backups. The one in escrow is in other hands, offline."""
    backup = backups.settings.backup
    if not backup.escrow:
        findings.add("[tenantproof.backup] escrow", "names no key in escrow")
    if set(backup.escrow) & set(backup.recipients):
        findings.add("[tenantproof.backup] escrow", "names a key that is in everyday use")
    wanted = {recipient.id for recipient in all_recipients(backup)}
    if len(wanted) < 2:
        findings.add("[tenantproof.backup] recipients", "only one key can read backups")
    _need_backup(backups, findings)
    missing = wanted - set(backups.manifest.recipients)
    if missing:
        findings.add(
            backups.manifest.run, f"is not readable by {', '.join(sorted(missing))}", fix="tenantproof keys rewrap"
        )


@control(
    "TP608",
    title="Retention is applied",
    severity=Severity.MEDIUM,
    requirement="B1",
    maps=BACKUP,
)
@falsified_by(given=faulty(overdue=lambda: (OLD.run,)))
def test_retention_is_applied(backups: Backups, findings: Findings) -> None:
    """Backups that nobody removes are customers' data kept longer than was promised, and a growing bill."""
    for run in backups.overdue():
        findings.add(run, "no period keeps it any more", fix=f"tenantproof retention --target {backups.target}")


@control(
    "TP609",
    title="Every table is in the newest backup",
    severity=Severity.CRITICAL,
    requirement="B1",
    maps=BACKUP,
)
@falsified_by(given=faulty())
def test_every_table_is_backed_up(backups: Backups, catalog: Catalog, findings: Findings) -> None:
    """A table that was left out is missed on the day of the restore. What exclude_tables names is a finding too
    where it holds tenants' rows: waive it, with a reason and an end.
    """
    _need_backup(backups, findings)
    held = {table.name for table in backups.manifest.tables}
    left_out = {entry.partition(":")[0] for entry in backups.manifest.not_included}
    mine = {table.name for table in catalog.isolated_tables}
    for table in catalog.snapshot.tables:
        system = table.extension or table.schema in ("pg_catalog", "information_schema")
        if table.kind not in ("table", "partitioned") or table.is_partition or table.name in held or system:
            continue
        if table.name in mine or table.name not in left_out:
            findings.add(table, "is not in the newest backup", fix=f"tenantproof backup --target {backups.target}")
    for entry in backups.manifest.not_included:
        if entry.startswith(("large objects", "the schema")):
            findings.add(backups.manifest.run, f"does not hold {entry}")
