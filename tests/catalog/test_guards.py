"""What guard triggers let through: judged from the text, and by PostgreSQL itself."""

from collections.abc import Iterator

import psycopg
import pytest

from pytest_tenantproof.catalog.guards import Aim, keeps, lets_through
from pytest_tenantproof.catalog.model import Column, Function, Index, Table, Trigger
from pytest_tenantproof.catalog.plpgsql import body_of
from pytest_tenantproof.target import rolled_back
from tests.catalog.guards import ALIGNING, KEEPING, MISALIGNED, MOVING, R

ID, TENANT = Column("id", "uuid", not_null=True), Column("tenant_id", "uuid", not_null=True)
SUBJECT = Column("subject_id", "uuid", not_null=True)
A, B = "'aaaaaaaa-0000-0000-0000-000000000000'", "'bbbbbbbb-0000-0000-0000-000000000000'"
UNITS = {A: "'00000000-0000-0000-0000-00000000ca01'", B: "'00000000-0000-0000-0000-00000000cb01'"}


def table(name: str, *columns: Column) -> Table:
    index = Index("pkey", "", ("id",), unique=True, primary=True)
    return Table(f"public.{name}", "public", "table", "app_owner", columns=(ID, TENANT, *columns), indexes=(index,))


TABLES = {
    t.name: t
    for t in (
        table("units", Column("development_id", "uuid")),
        table("messages"),
        table("attachments", SUBJECT, Column("subject_type", "text")),
    )
}


def function(body: str) -> Function:
    made = Function("a.f()", "a.f", "a", (), "trigger", "plpgsql", "o", config=("search_path=",), body=body)
    assert body_of(made) is not None, body
    return made


def is_kept(body: str, timing: str = "BEFORE", when: str = "", column: Column = TENANT) -> bool:
    trigger = Trigger("t", timing, "ROW", ("UPDATE",), "a.f()", when=when)
    return keeps(trigger, function(body), TABLES["public.units"], column)


def passes(body: str, timing: str = "BEFORE", when: str = "", owner: Column = TENANT) -> list[str]:
    """What gets past a trigger with that body, for each kind of subject."""
    trigger = Trigger("t", timing, "ROW", ("INSERT", "UPDATE"), "a.f()", when=when)
    kinds = {"unit": TABLES["public.units"], "message": TABLES["public.messages"]}
    aims = [Aim(SUBJECT, TENANT, "subject_type", kind, tuple(kinds), target, owner) for kind, target in kinds.items()]
    found = (lets_through(trigger, function(body), TABLES["public.attachments"], aim, TABLES) for aim in aims)
    return [each for each in found if each]


EACH = "declare c text; begin foreach c in array tg_argv loop {} end loop; return new; end"
COMPARED = "if to_jsonb(new) ->> c is distinct from to_jsonb(old) ->> c then raise exception 'no'; end if;"


@pytest.mark.parametrize(
    ("arguments", "inside", "kept"),
    [
        (("tenant_id",), COMPARED, True),
        (("id", "tenant_id"), COMPARED.replace("->>", "->"), True),
        (("id", "tenant_id"), f"if c = 'tenant_id' then {COMPARED} end if;", True),
        ((), COMPARED, False),
        (("id",), COMPARED, False),
        (("id", "tenant_id"), f"exit when c = 'tenant_id'; {COMPARED}", False),
        (("id", "tenant_id"), f"continue when c = 'tenant_id'; {COMPARED}", False),
        (("tenant_id",), f"c := 'id'; {COMPARED}", False),
        (("tenant_id",), f"{COMPARED} new.tenant_id := gen_random_uuid();", False),
        (("tenant_id",), f"begin {COMPARED} exception when others then null; end;", False),
        (("tenant_id",), f"if new.id = old.id then {COMPARED} end if;", False),
    ],
)
def test_a_loop_over_the_triggers_arguments(arguments: tuple[str, ...], inside: str, kept: bool) -> None:
    given = "".join(f"{text}\0" for text in arguments).encode().hex()
    trigger = Trigger("t", "BEFORE", "ROW", ("UPDATE",), "a.f()", arguments=given)
    assert keeps(trigger, function(EACH.format(inside)), TABLES["public.units"], TENANT) is kept
    other = EACH.format(inside).replace("in array tg_argv", "in array array['id']")
    assert not keeps(trigger, function(other), TABLES["public.units"], TENANT)


@pytest.mark.parametrize("body", KEEPING)
def test_a_guard_keeps_the_tenant(body: str) -> None:
    assert is_kept(body)


@pytest.mark.parametrize("body", MOVING)
def test_what_lets_one_change_through_keeps_nothing(body: str) -> None:
    assert not is_kept(body)


@pytest.mark.parametrize("body", ALIGNING)
def test_a_guard_keeps_references_within_the_tenant(body: str) -> None:
    assert passes(body) == []


@pytest.mark.parametrize("body", MISALIGNED)
def test_what_lets_one_reference_out_aligns_nothing(body: str) -> None:
    assert passes(body)


def test_after_the_write_only_an_error_refuses() -> None:
    put_back, dropped = "begin new.tenant_id := old.tenant_id; return new; end", "begin return null; end"
    assert is_kept(put_back)
    assert is_kept(dropped)
    assert not is_kept(put_back, "AFTER")
    assert not is_kept(dropped, "AFTER")
    assert is_kept(KEEPING[0], "AFTER")
    assert passes(ALIGNING[0], "AFTER") == []
    assert passes(ALIGNING[0].replace(R, "return null;"), "AFTER")


@pytest.mark.parametrize(
    ("when", "kept"),
    [
        ("(old.tenant_id IS DISTINCT FROM new.tenant_id)", True),
        ("((old.tenant_id <> new.tenant_id) OR (old.label <> new.label))", True),
        ("(old.* IS DISTINCT FROM new.*)", True),
        ("(old.label <> new.label)", False),
        ("((old.tenant_id <> new.tenant_id) AND (old.label <> new.label))", False),
        ("(CURRENT_USER <> 'postgres'::name)", False),
    ],
)
def test_a_trigger_that_is_not_fired_refuses_nothing(when: str, kept: bool) -> None:
    assert is_kept(f"begin {R} end", when=when) is kept
    assert passes(ALIGNING[0], when="(new.subject_id IS NOT NULL)") == []
    assert passes(ALIGNING[0], when="(new.subject_type = 'unit'::text)") == ["a row of another tenant on INSERT"]


def test_nulls_are_cases_where_the_column_may_hold_them() -> None:
    nullable = Column("tenant_id", "uuid")
    plain, distinct = "new.tenant_id <> old.tenant_id", "new.tenant_id is distinct from old.tenant_id"
    assert is_kept(f"begin if {plain} then {R} end if; return new; end")
    assert not is_kept(f"begin if {plain} then {R} end if; return new; end", column=nullable)
    assert is_kept(f"begin if {distinct} then {R} end if; return new; end", column=nullable)
    either = ALIGNING[0].replace("t is distinct from new.tenant_id", "not found or t <> new.tenant_id")
    assert passes(either) == []
    assert passes(either, owner=nullable)


@pytest.fixture
def connection(faults_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(faults_database, autocommit=True) as found, rolled_back(found):
        found.execute(
            "alter table public.units disable trigger user; alter table public.attachments disable trigger user"
        )
        found.execute("create function private.check_same(uuid, uuid) returns void language sql as ''")
        found.execute("alter table public.units drop constraint units_development_fk")
        found.execute("alter table public.messages drop constraint messages_unit_fk")
        found.execute("alter table public.readings drop constraint readings_unit_fk")
        found.execute("alter table public.attachments drop constraint attachments_path_ck")
        yield found


def changes(connection: psycopg.Connection, body: str, on: str, statement: str) -> int:
    """How many rows `statement` leaves as asked, with that trigger."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(
                f"create function private.g() returns trigger language plpgsql security definer set search_path = '' as"
                f" $f$ {body} $f$; create trigger g before insert or update on {on} for each row execute function"
                " private.g()".encode()
            )
            return len(connection.execute(statement.encode()).fetchall())
    except psycopg.Error:
        return 0


def test_postgresql_agrees_on_every_guard_of_the_tenant(connection: psycopg.Connection) -> None:
    move = f"update public.units set tenant_id = {B} where tenant_id = {A} returning 1"
    moved = f"with m as ({move[:-1]} tenant_id) select 1 from m where tenant_id = {B}"
    assert changes(connection, MOVING[0], "public.units", moved) == 1
    assert [body for body in KEEPING if changes(connection, body, "public.units", moved)] == []


def test_postgresql_agrees_on_every_guard_of_a_reference(connection: psycopg.Connection) -> None:
    into = "insert into public.attachments (tenant_id, subject_type, subject_id, path)"
    nowhere = "'00000000-0000-0000-0000-000000000099'"
    good, foreign, missing = (f"{into} values ({A}, 'unit', {at}, '') returning 1" for at in (*UNITS.values(), nowhere))
    wrong = f"update public.attachments set subject_id = {UNITS[B]} where tenant_id = {A} returning 1"
    on = "public.attachments"
    assert all(changes(connection, MISALIGNED[0], on, each) for each in (good, foreign, missing, wrong))
    for body in ALIGNING:
        assert changes(connection, body, on, good) == 1, body
        assert [each for each in (foreign, missing, wrong) if changes(connection, body, on, each)] == [], body
