"""Whose signatures on manifests and erasures count."""

from pytest_tenantproof.attest.keys import load_signer, read_public
from pytest_tenantproof.attest.sign import Signer, key_id
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import ConfigError

__all__ = ["trusted_keys"]


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
