"""What the client binds is what the audit trail says of a write."""

import psycopg
import pytest

from pytest_tenantproof.client import TenantPool
from pytest_tenantproof.client.session import ExtendedCursor
from tests.client.conftest import Product, past


def test_the_actor_of_a_write_is_the_bound_one(pool: TenantPool, product: Product) -> None:
    with pool.tenant(product.one, actor="user:77", request_id="req-9") as db:
        psycopg.Cursor(past(db)).execute("SELECT set_config('app.actor', 'somebody else', true)")
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


HIDING = [
    "set_config('role', 'none', true)",
    "set_config('role', 'app_backend', true)",
    "set_config('request.jwt.claims', '', true)",
    "set_config('request.jwt.claims', '{\"actor\": \"user:1\"}', true)",
    "set_config('app.binding', '', true)",
    "set_config('app.binding', 'x', true) || set_config('role', 'none', true)",
]
WRITES = [
    "WITH w AS (UPDATE units SET label = label RETURNING 1) SELECT {} FROM w",
    "UPDATE units SET label = label WHERE {} IS NOT NULL",
    "WITH w AS (DELETE FROM messages WHERE body = 'no such thing' RETURNING 1) SELECT {}",
    "INSERT INTO onboarding_transactions (tenant_id, status, error) VALUES ('TENANT', 'pending', {})",
]


def _commit_past_the_client(pool: TenantPool, tenant: str, statement: str) -> None:
    with pool.tenant(tenant, actor="user:77") as db:
        for each in (statement, "COMMIT"):
            ExtendedCursor(past(db)).execute(each.encode())


@pytest.mark.parametrize("hiding", HIDING)
@pytest.mark.parametrize("write", WRITES)
def test_a_statement_that_hides_its_actor_does_not_happen(
    pool: TenantPool, product: Product, write: str, hiding: str
) -> None:
    """Sent past the client, in one statement: rights are checked before it runs, the trigger fires after."""
    count = "SELECT count(*) FROM public.audit_events"
    before = product.sql(count)
    statement = write.format(hiding).replace("TENANT", product.one)
    with pytest.raises(psycopg.Error) as refused:
        _commit_past_the_client(pool, product.one, statement)
    assert refused.value.sqlstate in ("TP010", "TP011")
    assert product.sql(count) == before


def test_a_back_end_that_is_not_bound_leaves_no_event_under_another_name(product: Product) -> None:
    """Even where a policy is wrong and lets it write."""
    with psycopg.connect(product.admin, autocommit=True) as connection:
        connection.execute("BEGIN; CREATE POLICY x ON public.units TO app_scoped USING (true)")
        connection.execute("SET LOCAL SESSION AUTHORIZATION app_backend; SET LOCAL ROLE app_scoped")
        with pytest.raises(psycopg.Error) as refused:
            connection.execute("UPDATE public.units SET label = label")
        assert refused.value.sqlstate in ("TP010", "TP011")
        connection.execute("ROLLBACK")
