"""The tenant-scoped client: server code names the tenant, or reaches nothing. Imports neither pytest nor boto3.

pool = TenantPool(dsn)
with pool.tenant(tenant_id, actor="user:42") as db:  # one transaction
    db.execute("select * from messages where unit_id = %s", [unit])
"""

from pytest_tenantproof.client.aio import AsyncTenantPool, AsyncTenantSession
from pytest_tenantproof.client.pool import TenantPool, TenantSession
from pytest_tenantproof.client.scope import Rows
from pytest_tenantproof.errors import TenantScopeError

__all__ = ["AsyncTenantPool", "AsyncTenantSession", "Rows", "TenantPool", "TenantScopeError", "TenantSession"]
