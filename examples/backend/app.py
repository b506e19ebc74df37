"""A small back end on the tenant-scoped client; the static checks of the evidence run read it."""

import os
from typing import Any

from pytest_tenantproof.client import TenantPool

PAGE = """
SELECT m.author, m.body, u.label FROM messages m JOIN units u ON u.id = m.unit_id
WHERE m.unit_id = %(unit)s ORDER BY m.created_at DESC LIMIT 50
"""


def open_pool() -> TenantPool:
    """The pool of the process; the login is a member of app_scoped alone."""
    return TenantPool(os.environ["BACKEND_DSN"])


def messages_of(pool: TenantPool, tenant_id: str, user: str, unit: str) -> list[Any]:
    """A unit's newest messages. The query names no tenant: it cannot reach another."""
    with pool.tenant(tenant_id, actor=f"user:{user}", read_only=True) as db:
        return db.execute(PAGE, {"unit": unit})


def rename_unit(pool: TenantPool, tenant_id: str, user: str, unit: str, label: str) -> bool:
    """Whether there was such a unit."""
    with pool.tenant(tenant_id, actor=f"user:{user}") as db:
        return db.execute("UPDATE units SET label = %s WHERE id = %s", [label, unit]).rowcount == 1
