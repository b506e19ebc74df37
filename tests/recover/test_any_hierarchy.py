"""Recovery of a product of another shape, batch by batch, and what it leaves in the audit log."""

from collections.abc import Callable

import psycopg
import pytest

from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.settings import Reference
from pytest_tenantproof.recover import apply_plan, plan, undo
from tests.support import reference_settings

BOARDS = """
CREATE SCHEMA crm;
CREATE TABLE crm.accounts (no int PRIMARY KEY, name text);
CREATE TABLE crm."Workspaces" (id int PRIMARY KEY, "accountNo" int, title text);
CREATE TABLE crm.boards (id int PRIMARY KEY, "accountNo" int, space int);
CREATE TABLE crm.cards (id int PRIMARY KEY, "accountNo" int, board_id int, data jsonb);
CREATE TABLE crm.comments (id int PRIMARY KEY, "accountNo" int, card_id int REFERENCES crm.cards, body text);
INSERT INTO crm.accounts VALUES (1, 'one'), (2, 'two');
INSERT INTO crm."Workspaces" VALUES (10, 1, 'a'), (20, 2, 'b'), (30, NULL, 'of nobody');
INSERT INTO crm.boards VALUES (11, 1, 10), (12, NULL, 10), (21, 1, 20), (31, 1, 30), (41, 2, 40);
INSERT INTO crm.cards VALUES (111, 1, 11, NULL), (121, 9, 12, '{"a": [1]}'), (311, 1, 31, '{"b": null}');
INSERT INTO crm.comments VALUES (1111, 1, 111, 'in place'), (1211, NULL, 121, 'mended'), (3111, 1, 311, 'kept aside');
"""
SHAPE = Settings(
    tenant_table="crm.accounts",
    tenant_column=("accountNo",),
    schemas=("crm",),
    references=(Reference("crm.boards.space", {"*": 'crm."Workspaces"'}),),
)
"""Five levels; one link is a foreign key, two follow from names, one is configured."""


@pytest.fixture
def boards(new_database: Callable[[], str]) -> str:
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(BOARDS)
    return dsn


def test_rows_of_any_hierarchy_find_their_way(boards: str) -> None:
    tables = ('crm."Workspaces"', "crm.boards", "crm.cards", "crm.comments")
    with psycopg.connect(boards, autocommit=True) as connection:

        def state() -> list[list[tuple[object, ...]]]:
            return [
                connection.execute(f"SELECT to_jsonb(t) FROM {t} t ORDER BY id".encode()).fetchall() for t in tables
            ]

        before = state()
        assert [(s.action, s.table, s.rows) for s in plan(connection, SHAPE)] == [
            ("repair", "crm.boards", 1),
            ("repair", "crm.cards", 1),
            ("repair", "crm.comments", 1),
            ("quarantine", "crm.comments", 1),
            ("quarantine", "crm.cards", 1),
            ("quarantine", "crm.boards", 1),
            ("quarantine", "crm.boards", 2),
            ("quarantine", 'crm."Workspaces"', 1),
        ]
        assert apply_plan(connection, SHAPE, "one") == []
        assert plan(connection, SHAPE) == []
        whose = 'SELECT id, "accountNo" FROM crm.{} ORDER BY id'
        assert connection.execute(whose.format("boards").encode()).fetchall() == [(11, 1), (12, 1)]
        assert connection.execute(whose.format("cards").encode()).fetchall() == [(111, 1), (121, 1)]
        assert connection.execute(whose.format("comments").encode()).fetchall() == [(1111, 1), (1211, 1)]
        kept = connection.execute(
            "SELECT table_name, content, reason FROM tenantproof.recovered WHERE action = 'quarantine' ORDER BY seq"
        ).fetchall()
        assert kept == [
            (
                "crm.comments",
                {"id": 3111, "accountNo": 1, "card_id": 311, "body": "kept aside"},
                "orphaned: card_id is NULL or names no row of crm.cards that stays",
            ),
            (
                "crm.cards",
                {"id": 311, "accountNo": 1, "board_id": 31, "data": {"b": None}},
                "orphaned: board_id is NULL or names no row of crm.boards that stays",
            ),
            *(
                ("crm.boards", {"id": id_, "accountNo": account, "space": space}, why)
                for id_, account, space, why in (
                    (21, 1, 20, 'misaligned: belongs to another tenant than its crm."Workspaces"'),
                    (31, 1, 30, 'orphaned: space is NULL or names no row of crm."Workspaces" that stays'),
                    (41, 2, 40, 'orphaned: space is NULL or names no row of crm."Workspaces" that stays'),
                )
            ),
            (
                'crm."Workspaces"',
                {"id": 30, "accountNo": None, "title": "of nobody"},
                "tenant-less: its tenant is NULL",
            ),
        ]
        assert undo(connection, "one") == len(kept) + 3
        assert state() == before


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_a_batch_is_a_transaction(boards: str, batch: int) -> None:
    with psycopg.connect(boards, autocommit=True) as connection:
        apply_plan(connection, SHAPE, "one", batch=batch)
        taken = connection.execute(
            "SELECT table_name, action, array_agg(DISTINCT n ORDER BY n) FROM (SELECT table_name, action, count(*) AS n"
            " FROM tenantproof.recovered GROUP BY table_name, action, xmin) b GROUP BY 1, 2"
        ).fetchall()
    assert max(n for _, _, sizes in taken for n in sizes) == min(batch, 3)
    assert {(table, action) for table, action, _ in taken} >= {("crm.boards", "quarantine"), ("crm.boards", "repair")}


def test_what_it_did_is_in_the_audit_log(reference_database: str) -> None:
    """On a hardened product, where a superuser loaded rows past the keys. The log says which run it was, and
    believes no name that a login gives itself."""
    lost = "INSERT INTO public.messages (id, tenant_id, development_id, unit_id, author, body)"
    lost += (
        " SELECT md5('lost')::uuid, tenant_id, development_id, md5('gone')::uuid, 'x', 'y' FROM public.units LIMIT 1"
    )
    with psycopg.connect(reference_database, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        try:
            connection.execute(lost.encode())
            assert apply_plan(connection, reference_settings(), "one") == []
            assert undo(connection, "one") == 1
            events = connection.execute(
                "SELECT operation::text, keys, actor, request_id FROM public.audit_events"
                " WHERE request_id LIKE '%:one' ORDER BY id"
            ).fetchall()
        finally:
            connection.execute("DELETE FROM public.messages WHERE id = md5('lost')::uuid")
            connection.execute("DROP TABLE IF EXISTS tenantproof.recovered")
        row = connection.execute("SELECT md5('lost')::uuid::text").fetchone()
    assert row is not None
    assert events == [
        ("DELETE", [row[0]], "system:postgres", "recover:one"),
        ("INSERT", [row[0]], "system:postgres", "undo:one"),
    ]
