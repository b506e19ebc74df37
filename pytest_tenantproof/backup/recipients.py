"""Who can read backups, by the configuration."""

from pytest_tenantproof.backup.crypto import Recipient, parse_recipient
from pytest_tenantproof.config.backup import BackupSettings
from pytest_tenantproof.errors import BackupError

__all__ = ["all_recipients"]


def all_recipients(backup: BackupSettings) -> tuple[Recipient, ...]:
    """Those in `recipients`, then those in `escrow`. Raises BackupError for none, or one that is malformed."""
    found = {r.id: r for r in map(parse_recipient, (*backup.recipients, *backup.escrow))}
    if not found:
        raise BackupError(
            "[tenantproof.backup] has no recipients: nobody could read the backup.",
            remedy="make two keys with `tenantproof keys new --backup`; list one in recipients, the other in escrow.",
        )
    return tuple(found.values())
