"""Object names. Tenant ids may be any text, so what is not plain becomes a digest."""

import hashlib
import re

__all__ = ["key_name", "open_script_name"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def key_name(run: str, tenant: str | None) -> str:
    """keys/RUN/TENANT.json; "@shared" for what belongs to no tenant; "~sha256" for ids that are not plain."""
    if tenant is None:
        return f"keys/{run}/@shared.json"
    plain = tenant if _PLAIN.fullmatch(tenant) else "~" + hashlib.sha256(tenant.encode()).hexdigest()
    return f"keys/{run}/{plain}.json"


def open_script_name() -> str:
    """The stand-alone script that opens backups, stored beside them."""
    return "open_backup.py"
