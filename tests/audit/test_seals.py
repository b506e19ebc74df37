"""What a superuser does to old events is found, and named."""

import threading

import psycopg
import pytest

from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.audit import read_seals
from pytest_tenantproof.errors import AuditError
from tests.audit.conftest import Log

OLD = "(SELECT min(id) + 5 FROM public.audit_events)"


def test_an_untouched_log_verifies(log: Log) -> None:
    first = log.seal()
    assert len(first) == 1
    assert first[0].events == log.run("SELECT count(*) FROM public.audit_events")[0][0] > 0
    log.run("UPDATE public.messages SET body = body || '.' WHERE author = 'manager'")
    second = log.seal()
    assert second[0].events > 0
    assert log.tampered() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (f"DELETE FROM public.audit_events WHERE id = {OLD}", "was removed"),
        (f"UPDATE public.audit_events SET actor = 'user:7' WHERE id = {OLD}", "was changed"),
        (f"UPDATE public.audit_events SET keys[1] = 'x' WHERE id = {OLD}", "was changed"),
        (f"UPDATE public.audit_events SET at = at - interval '1 hour' WHERE id = {OLD}", "was changed"),
        (f"UPDATE public.audit_events SET xid = '1' WHERE id = {OLD}", "was inserted"),
    ],
)
def test_one_old_event_is_named(log: Log, change: str, words: str) -> None:
    log.seal()
    number = log.run(f"SELECT {OLD}")[0][0]
    log.as_superuser(change)
    found = log.tampered()
    assert any(words in item.what and f"event {number} " in item.what for item in found)
    assert all(item.where.startswith("seal 1: ") for item in found)


def _insert(columns: str, values: str) -> str:
    return (
        f"INSERT INTO public.audit_events ({columns}, tenant_id, actor, actor_source, database_role, table_schema,"
        f" table_name, operation, key_columns) VALUES ({values}, gen_random_uuid(), 'user:7', 'jwt', 'authenticated',"
        " 'public', 'units', 'DELETE', '{id}')"
    )


def test_a_forged_event_in_a_sealed_range_is_named(log: Log) -> None:
    log.seal()
    xid = log.run("SELECT min(xid::text::bigint) FROM public.audit_events")[0][0]
    log.as_superuser(_insert("xid", f"'{xid}'"))
    (found,) = log.tampered()
    assert "was inserted" in found.what


def test_a_back_dated_event_is_named_though_no_seal_covers_it(log: Log) -> None:
    log.seal()
    log.as_superuser(_insert("at", "clock_timestamp() - interval '2 hours'"))
    (found,) = log.tampered()
    assert found.where == "not sealed yet"
    assert "dated before its time" in found.what
    log.seal()
    assert [item.where[:7] for item in log.tampered()] == ["seal 2:"]


def test_a_duplicate_of_an_event_is_found(log: Log) -> None:
    log.seal()
    columns = log.run(
        "SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attrelid = 'public.audit_events'::regclass"
        " AND attnum > 0 AND attname <> 'at'"
    )[0][0]
    log.as_superuser(
        f"INSERT INTO public.audit_events (at, {columns}) OVERRIDING SYSTEM VALUE"
        f" SELECT at + interval '1 s', {columns} FROM public.audit_events WHERE id = {OLD}"
    )
    assert any("same number" in item.what for item in log.tampered())


def test_a_cut_tail_is_found(log: Log) -> None:
    log.seal()
    log.run("DELETE FROM public.messages WHERE author = 'manager'")
    log.seal()
    log.as_superuser("DELETE FROM public.audit_events WHERE operation = 'DELETE'")
    found = log.tampered()
    assert found
    assert all(item.where.startswith("seal 2: ") and "was removed" in item.what for item in found)


def test_without_stored_leaves_the_range_is_named(log: Log) -> None:
    log.seal()
    (log.folder / "00000001.leaves").unlink()
    log.as_superuser(f"DELETE FROM public.audit_events WHERE id = {OLD}")
    (found,) = log.tampered()
    assert found.where.startswith("seal 1: ")
    assert "no stored leaves" in found.what


def test_an_open_transaction_is_sealed_once_it_has_ended(log: Log) -> None:
    with psycopg.connect(log.dsn) as open_:
        open_.execute("UPDATE public.units SET label = label || '!' WHERE label = 'Flat 1A'")
        log.run("UPDATE public.units SET label = label || '?' WHERE label = 'Flat 1B'")
        log.seal()
        open_.commit()
    assert log.tampered() == []
    assert log.seal()[0].events >= 2
    assert log.tampered() == []


def test_large_ranges_are_sealed_in_parts(log: Log) -> None:
    parts = log.seal(most=7)
    assert len(parts) > 3
    assert all(part.events <= 7 for part in parts)
    assert sum(part.events for part in parts) == log.run("SELECT count(*) FROM public.audit_events")[0][0]
    assert log.tampered() == []


def test_two_jobs_at_once_keep_one_chain(log: Log) -> None:
    jobs = [threading.Thread(target=log.seal) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert log.tampered() == []


def test_a_seal_that_is_missing_forged_or_swapped_is_refused(log: Log) -> None:
    log.seal(most=20)
    trusted = {log.signer.key_id: log.signer.public}
    first, second = log.folder / "00000001.seal.jsonl", log.folder / "00000002.seal.jsonl"
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    with pytest.raises(AuditError, match="does not follow"):
        read_seals(log.folder, trusted)
    first.write_bytes(one)
    second.unlink()
    with pytest.raises(AuditError, match="seal 2 is missing"):
        read_seals(log.folder, trusted)
    second.write_bytes(two)
    stranger = Signer(new_seed())
    with pytest.raises(AuditError, match="not trusted"):
        read_seals(log.folder, {stranger.key_id: stranger.public})
