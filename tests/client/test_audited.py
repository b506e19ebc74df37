"""What the client binds is what the audit trail says of a write."""

import psycopg

from pytest_tenantproof.client import TenantPool
from tests.client.conftest import Product


def test_the_actor_of_a_write_is_the_bound_one(pool: TenantPool, product: Product) -> None:
    with pool.tenant(product.one, actor="user:77", request_id="req-9") as db:
        psycopg.Cursor(db._connection).execute("SELECT set_config('app.actor', 'somebody else', true)")
        db.execute("UPDATE units SET label = label WHERE tenant_id = %s", [product.one])
    with pool.all_tenants(reason="rename all units", actor="system:rename") as db:
        db.execute("UPDATE units SET label = label WHERE tenant_id = %s", [product.other])
    found = product.sql(
        "SELECT tenant_id::text, actor, actor_source, request_id FROM public.audit_events"
        " WHERE operation = 'UPDATE' AND table_name = 'units' AND actor IN ('user:77', 'system:rename')"
        " ORDER BY id"
    )
    assert [row[:3] for row in found] == [
        (product.one, "user:77", "binding"),
        (product.other, "system:rename", "service"),
    ]
    assert found[0][3] == "req-9"
