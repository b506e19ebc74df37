"""What controls ask of a target's backups; each answer is found once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from socket import getaddrinfo

from pytest_tenantproof.backup.examine import Examined, examine_all
from pytest_tenantproof.backup.manifest import Manifest, manifest_name
from pytest_tenantproof.backup.retention import Policy, plan_retention
from pytest_tenantproof.backup.runs import load_manifest
from pytest_tenantproof.backup.store import Capabilities, Store
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import BackupError, TargetUnreachable
from pytest_tenantproof.target import dsn_parts

__all__ = ["Backups", "private_keys_here"]


@dataclass(frozen=True)
class Backups:
    """A target's backups in its store. Everything raises StoreError when the store does not answer."""

    settings: Settings
    target: str
    store: Store
    key_store: Store
    trusted: Mapping[str, bytes]
    dsn: str = field(repr=False)

    @cached_property
    def examined(self) -> Examined:
        return examine_all(self.store, self.trusted, self.target)

    @cached_property
    def manifest(self) -> Manifest:
        """Of the newest verified backup. Raises BackupError when there is none."""
        newest = self.examined.newest
        if newest is None:
            raise BackupError(f"{self.target} has no verified backup.", remedy="run `tenantproof backup`.")
        return load_manifest(self.store, newest.run, self.trusted)

    @cached_property
    def capabilities(self) -> Capabilities:
        return self.store.capabilities()

    @cached_property
    def key_capabilities(self) -> Capabilities:
        return self.key_store.capabilities()

    def overdue(self) -> tuple[str, ...]:
        """Backups that retention should have removed, and that nothing locks."""
        backup = self.settings.backup
        policy = Policy(backup.daily, backup.weekly, backup.monthly)
        dated = ((v.run, v.time) for v in self.examined.verified)
        return tuple(run for run in plan_retention(dated, policy, datetime.now(UTC)).remove if not self._locked(run))

    def private_keys(self) -> tuple[str, ...]:
        """Where a private backup key is on this machine."""
        return private_keys_here(self.settings)

    def on_same_host(self) -> bool:
        """Whether the store is a folder, on this machine's loopback, or at an address of the database's host.

        Raises TargetUnreachable when a name does not resolve: then nothing is known.
        """
        if self.store.url.startswith("file:"):
            return True
        database = dsn_parts(self.dsn)
        hosts = str(database.get("hostaddr") or database.get("host") or "").split(",")
        there = _addresses(self.capabilities.host)
        beside = {address for host in hosts for address in _addresses(host)}
        return not there.isdisjoint(beside) or any(ip_address(address).is_loopback for address in there)

    def _locked(self, run: str) -> bool:
        now = datetime.now(UTC)
        versions = self.store.versions(manifest_name(run))
        found = (self.store.head(v.name, version=v.version) for v in versions)
        return any(s is not None and s.locked_until is not None and s.locked_until > now for s in found)


_MARK = b"tpbkey1:"
_LARGEST = 1 << 16


def private_keys_here(settings: Settings) -> tuple[str, ...]:
    """Where a private backup key is on this machine: the configured file, a small file beside the config or in
    ~/.tenantproof, a *.key one folder below these, or the environment."""
    named = settings.backup.private_key_file
    files = [settings.root / named] if named and (settings.root / named).exists() else []
    for folder in (settings.root, Path.home() / ".tenantproof"):
        files += [path for path in (*folder.glob("*"), *folder.glob("*/*.key")) if _holds_key(path)]
    variables = (f"${name}" for name, value in os.environ.items() if _MARK.decode() in value)
    return (*(str(path) for path in dict.fromkeys(files)), *variables)


def _holds_key(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= _LARGEST and _MARK in path.read_bytes()
    except PermissionError:
        return False


def _addresses(host: str) -> set[str]:
    """The addresses of a name; a socket folder or no name is this machine."""
    name = "localhost" if not host or host.startswith("/") else host
    try:
        return {str(found[4][0]).partition("%")[0] for found in getaddrinfo(name, None)}
    except OSError as error:
        raise TargetUnreachable(f"{name} does not resolve: {error}.", remedy="check the name and DNS.") from None
