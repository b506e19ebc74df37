"""What events say, and who cannot change or forge them."""

import psycopg
import pytest

from tests.audit.conftest import TENANT, Log

LAST = "SELECT {} FROM public.audit_events ORDER BY id DESC LIMIT 1"
CLAIMS = f'{{"sub": "user-9", "role": "authenticated", "app_metadata": {{"tenant_id": "{TENANT}"}}}}'
AS_CLIENT = (
    "SET ROLE authenticated",
    f"SELECT set_config('request.jwt.claims', '{CLAIMS}', false), set_config('app.actor', 'user:root', false)",
)


def test_each_operation_is_recorded(log: Log) -> None:
    unit = log.run(f"SELECT id, development_id FROM public.units WHERE tenant_id = '{TENANT}' LIMIT 1")[0]
    values = f"('{TENANT}', '{unit[1]}', '{unit[0]}', 'x', 'y')"
    columns = "(tenant_id, development_id, unit_id, author, body)"
    key = log.run(f"INSERT INTO public.messages {columns} VALUES {values} RETURNING id::text")[0][0]
    wanted = "tenant_id::text, table_schema, table_name, operation, row_count, key_columns, keys, changed"
    head = (TENANT, "public", "messages")
    assert log.run(LAST.format(wanted)) == [(*head, "INSERT", 1, ["id"], [key], None)]
    log.run(f"UPDATE public.messages SET body = 'z', author = 'w' WHERE id = '{key}'")
    assert log.run(LAST.format(wanted)) == [(*head, "UPDATE", 1, ["id"], [key], ["author", "body"])]
    log.run(f"DELETE FROM public.messages WHERE id = '{key}'")
    assert log.run(LAST.format(wanted)) == [(*head, "DELETE", 1, ["id"], [key], None)]
    log.run("TRUNCATE public.messages")
    zeros = "00000000-0000-0000-0000-000000000000"
    assert log.run(LAST.format(wanted)) == [(zeros, "public", "messages", "TRUNCATE", None, ["id"], None, None)]


def test_a_bulk_write_names_every_row_under_its_own_tenant(log: Log) -> None:
    before = log.run("SELECT max(id) FROM public.audit_events")[0][0]
    log.run("SET session_replication_role = replica", "UPDATE public.messages SET body = body || '.'")
    named = f"""
        SELECT e.tenant_id, unnest(e.keys)::uuid FROM public.audit_events e WHERE e.id > {before}
        EXCEPT SELECT tenant_id, id FROM public.messages
    """
    assert log.run(named) == []
    whole = log.run(f"SELECT sum(row_count), max(row_count) FROM public.audit_events WHERE id > {before}")[0]
    assert whole[0] == log.run("SELECT count(*) FROM public.messages")[0][0]
    assert whole[1] <= 1000


def test_a_client_cannot_choose_its_actor(log: Log) -> None:
    log.run(*AS_CLIENT, "UPDATE public.units SET label = label || '.'")
    assert log.run(LAST.format("actor, actor_source, database_role, session_role")) == [
        ("user-9", "jwt", "authenticated", "postgres")
    ]


def test_who_it_was_else(log: Log) -> None:
    write = "UPDATE public.units SET label = label || '.'"
    log.run("SET ROLE service_role", "SELECT set_config('app.actor', 'user:42', false)", write)
    assert log.run(LAST.format("actor, actor_source")) == [("user:42", "service")]
    log.run("SELECT set_config('app.actor', 'user:42', false)", write)
    assert log.run(LAST.format("actor, actor_source")) == [("system:postgres", "role")]
    bound = f"BEGIN; SET LOCAL ROLE app_scoped; SELECT tenantproof.bind_tenant('{TENANT}', 'user:7', 'req-1')"
    log.run(bound, write, "COMMIT")
    assert log.run(LAST.format("actor, actor_source, request_id, tenant_id::text")) == [
        ("user:7", "binding", "req-1", TENANT)
    ]


@pytest.mark.parametrize("role", ["postgres", "tenantproof_audit", "service_role", "authenticated", "app_scoped"])
@pytest.mark.parametrize("table", ["audit_events", "audit_events_default"])
@pytest.mark.parametrize(
    "statement", ["UPDATE public.{} SET actor = 'x'", "DELETE FROM public.{}", "TRUNCATE public.{}"]
)
def test_nobody_changes_it(log_shared: Log, role: str, table: str, statement: str) -> None:
    with psycopg.connect(log_shared.dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"SET ROLE {role}".encode())
        with pytest.raises((psycopg.errors.RaiseException, psycopg.Error)) as refused:
            connection.execute(statement.format(table).encode())
        assert refused.value.sqlstate in ("TP001", "42501")


@pytest.mark.parametrize("role", ["service_role", "authenticated", "anon", "app_scoped"])
def test_nobody_writes_events_by_hand(log_shared: Log, role: str) -> None:
    with psycopg.connect(log_shared.dsn, autocommit=True) as connection:
        connection.execute(f"SET ROLE {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("INSERT INTO public.audit_events (tenant_id) VALUES (gen_random_uuid())")


def test_a_tenant_reads_its_own_events_alone(log: Log) -> None:
    assert log.run(*AS_CLIENT, "SELECT DISTINCT tenant_id::text FROM public.audit_events") == [(TENANT,)]


def test_a_key_cannot_change(log_shared: Log) -> None:
    with pytest.raises(psycopg.Error) as refused:
        log_shared.run("UPDATE public.messages SET id = gen_random_uuid()")
    assert refused.value.sqlstate == "TP005"


def test_a_new_partitioned_table_is_audited_by_one_call(log: Log) -> None:
    log.run(
        "CREATE TABLE public.readings (tenant_id uuid, n int, v int, PRIMARY KEY (tenant_id, n))"
        " PARTITION BY RANGE (n)",
        "CREATE TABLE public.readings_1 PARTITION OF public.readings FOR VALUES FROM (0) TO (10)",
        "SELECT tenantproof.audit('public.readings')",
        f"INSERT INTO public.readings_1 VALUES ('{TENANT}', 1, 1)",
    )
    assert log.run(LAST.format("table_name, keys")) == [("readings_1", [f'["{TENANT}", 1]'])]
    log.run("UPDATE public.readings SET v = 2")
    assert log.run(LAST.format("table_name, changed")) == [("readings", ["v"])]
    with pytest.raises(psycopg.Error) as refused:
        log.run("UPDATE public.readings SET n = 2")
    assert refused.value.sqlstate == "TP005"
