"""Object names. Tenant ids may be any text, so they are no part of a name."""

import hashlib

__all__ = ["OPEN_SCRIPT", "key_name"]

OPEN_SCRIPT = "open_backup.py"
"""The stand-alone script that opens backups, stored beside them."""


def key_name(run: str, tenant: str | None) -> str:
    """Where a tenant's wrapped key is: one of 64 small objects a run, so that many tenants stay few requests.

    The object's number is sha256(tenant id) modulo 64; "@shared" is what belongs to no tenant.
    """
    if tenant is None:
        return f"keys/{run}/@shared.json"
    return f"keys/{run}/{hashlib.sha256(tenant.encode()).digest()[-1] % 64:02}.json"
