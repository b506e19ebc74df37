"""Object names. Tenant ids may be any text, so they are no part of a name."""

import hashlib

__all__ = ["OPEN_SCRIPT", "key_name"]

OPEN_SCRIPT = "open_backup.py"
"""The stand-alone script that opens backups, stored beside them."""


def key_name(run: str, tenant: str | None) -> str:
    """Where a tenant's wrapped key is: one of 256 small objects a run, so that many tenants stay few requests.

    The object is the first byte of sha256(tenant id); "@shared" is what belongs to no tenant.
    """
    place = "@shared" if tenant is None else hashlib.sha256(tenant.encode()).hexdigest()[:2]
    return f"keys/{run}/{place}.json"
