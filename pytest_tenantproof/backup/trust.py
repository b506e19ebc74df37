"""Whose signatures on manifests and erasures count, and the private key that reads backups."""

import stat

from pytest_tenantproof.attest.keys import load_signer, read_public
from pytest_tenantproof.attest.sign import Signer, key_id
from pytest_tenantproof.backup.crypto import BackupKeypair, parse_private
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import ConfigError

__all__ = ["private_key", "trusted_keys"]


def trusted_keys(settings: Settings, signer: Signer | None = None) -> dict[str, bytes]:
    """Key id -> public key: those in `trusted_keys` of the config, and `signer`'s (default: the environment's).

    Raises ConfigError when there is none, SigningKeyError for one that cannot be read.
    """
    paths = (settings.root / path for path in settings.backup.trusted_keys)
    found = {key_id(public): public for public in map(read_public, paths)}
    signer = signer or load_signer()
    if signer is not None:
        found[signer.key_id] = signer.public
    if not found:
        raise ConfigError(
            "no public key says whose backups are to be trusted.",
            remedy='list the .pub file of the signing key as trusted_keys = ["backup.pub"] in [tenantproof.backup].',
        )
    return found


def private_key(settings: Settings) -> BackupKeypair:
    """What `private_key_file` holds. Raises ConfigError when it is unset, missing, or open to others; BackupError
    when it is malformed."""
    named = settings.backup.private_key_file
    path = settings.root / named
    if not named or not path.is_file():
        raise ConfigError(
            "no private backup key is here.", remedy="set private_key_file, on the machine that restores alone."
        )
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} can be read by others.", remedy=f"chmod 600 {path}")
    return parse_private(path.read_text())
