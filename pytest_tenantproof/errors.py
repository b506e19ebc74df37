"""The one tree of errors. Each says what is wrong, where, and the remedy.

TenantproofError            exit 3: internal, the evidence cannot be trusted
├── UsageError              exit 4: the call is wrong
│   ├── ConfigError             tenantproof.toml: key, line and remedy
│   └── SigningKeyError         no key, unreadable key, wrong permissions
├── TargetError             exit 2: the target could not be established
│   ├── TargetUnreachable       no server, refused, wrong password
│   ├── TargetUnfit             too old, insufficient privilege, wrong class
│   └── NotReadOnly             a live session accepted a write
├── CatalogError            exit 2: the catalog could not be read or has no tenant table
├── MigrationError          exit 1: an edited, missing or failing migration
├── EvidenceError           exit 3: a bundle could not be written or signed
├── VerificationError       exit 1: a bundle does not verify; carries a stable reason code
├── ScanError               exit 2: front-end files could not be scanned, so nothing is known of them
├── ProbeError              exit 2: an attack could not be carried out
├── AuditError              exit 1: the audit trail is broken or cannot be sealed
├── BackupError             exit 1
│   ├── FormatError             an archive is damaged, truncated, reordered or forged
│   ├── StoreError              the object store refused or lost something
│   ├── RetentionError          retention could not be applied safely
│   └── RestoreError            the restore was refused or did not match
├── NotifyError             exit 1: an alert was not delivered
├── GateRefused             exit 1: a destructive script may not run here
└── TenantScopeError        exit 1: tenant data was asked for outside a tenant scope
"""

import re

__all__ = [
    "AuditError",
    "BackupError",
    "CatalogError",
    "ConfigError",
    "EvidenceError",
    "FormatError",
    "GateRefused",
    "MigrationError",
    "NotReadOnly",
    "NotifyError",
    "ProbeError",
    "RestoreError",
    "RetentionError",
    "ScanError",
    "SigningKeyError",
    "StoreError",
    "TargetError",
    "TargetUnfit",
    "TargetUnreachable",
    "TenantScopeError",
    "TenantproofError",
    "UsageError",
    "VerificationError",
    "plain",
    "redact",
]

_SECRETS = (
    re.compile(r"(?P<keep>[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s]*(?=@)", re.I),
    re.compile(r"(?P<keep>\b(?:password|passwd|pwd|secret|token)\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.I),
)


def redact(text: str) -> str:
    """`text` without the password of any connection string or `password=` pair in it."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\g<keep>***", text)
    return text


def plain(text: str) -> str:
    """`text` on one line, without what a terminal would obey: names come from databases and from strangers' files."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class TenantproofError(Exception):
    """What went wrong, and `remedy`: what to do about it. Passwords are redacted on construction."""

    exit_status = 3

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = redact(message)
        self.remedy = redact(remedy)
        super().__init__(f"{self.message} Remedy: {self.remedy}" if remedy else self.message)


class UsageError(TenantproofError):
    exit_status = 4


class ConfigError(UsageError):
    pass


class SigningKeyError(UsageError):
    pass


class TargetError(TenantproofError):
    exit_status = 2


class TargetUnreachable(TargetError):
    pass


class TargetUnfit(TargetError):
    pass


class NotReadOnly(TargetError):
    pass


class CatalogError(TenantproofError):
    exit_status = 2


class MigrationError(TenantproofError):
    exit_status = 1


class EvidenceError(TenantproofError):
    exit_status = 3


class VerificationError(TenantproofError):
    """A bundle does not verify. `reason` is a stable code such as `signature-invalid`."""

    exit_status = 1

    def __init__(self, reason: str, message: str, *, remedy: str = "") -> None:
        self.reason = reason
        super().__init__(plain(message), remedy=plain(remedy))


class ScanError(TenantproofError):
    exit_status = 2


class ProbeError(TenantproofError):
    exit_status = 2


class AuditError(TenantproofError):
    exit_status = 1


class BackupError(TenantproofError):
    exit_status = 1


class FormatError(BackupError):
    pass


class StoreError(BackupError):
    pass


class RetentionError(BackupError):
    pass


class RestoreError(BackupError):
    pass


class NotifyError(TenantproofError):
    """An alert was not delivered. `transient`: trying again may help, not before `retry_after` seconds.

    `partial`: some recipients got it, so that sending it again would tell them twice.
    """

    exit_status = 1

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        transient: bool = False,
        retry_after: float = 0.0,
        partial: bool = False,
    ) -> None:
        self.transient, self.retry_after, self.partial = transient, retry_after, partial
        super().__init__(message, remedy=remedy)


class GateRefused(TenantproofError):
    exit_status = 1


class TenantScopeError(TenantproofError):
    exit_status = 1
