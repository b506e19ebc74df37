"""Migrations are all or nothing, refuse rows that they would lose, and notice edits."""

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from pglast import split

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge
from pytest_tenantproof.errors import MigrationError
from pytest_tenantproof.migrate import apply, migrations_folder, status
from pytest_tenantproof.probes import scan
from tests.migrate.conftest import Product
from tests.support import reference_settings

Folder = Callable[..., Path]

HARDENING = "001_multi_tenant_hardening.sql"

# Makes the nth DDL command of a session fail, also one inside a DO block.
SABOTEUR = """
CREATE FUNCTION public.sabotage() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE n int := coalesce(nullif(current_setting('sabotage.done', true), ''), '0')::int + 1;
BEGIN
    PERFORM set_config('sabotage.done', n::text, false);
    IF n::text = current_setting('sabotage.at', true) THEN RAISE EXCEPTION 'sabotaged'; END IF;
END $$;
CREATE EVENT TRIGGER sabotage ON ddl_command_end EXECUTE FUNCTION public.sabotage();
"""


def _count_ddl(product: Product) -> int:
    """How many DDL commands the hardening consists of."""
    with psycopg.connect(product.dsn) as connection:
        connection.execute((migrations_folder() / HARDENING).read_bytes())
        row = connection.execute("SELECT current_setting('sabotage.done')").fetchone()
        connection.rollback()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.long)])
def test_a_failure_at_any_ddl_command_changes_nothing(untouched: Product, folder: Folder, step: int) -> None:
    product, files = untouched, folder("000")
    apply(product.dsn, files)
    folder("001")
    product.run(SABOTEUR)
    before, commands = product.state(), _count_ddl(product)
    assert commands > 60
    assert product.state() == before
    ledger_ddl = 4
    for at in range(1 + ledger_ddl, 1 + ledger_ddl + commands, step):
        with pytest.raises(MigrationError, match="failed and changed nothing: sabotaged"):
            apply(f"{product.dsn} options='-c sabotage.at={at}'", files)
        assert product.state() == before, f"command {at} left a trace"
    product.run("DROP EVENT TRIGGER sabotage; DROP FUNCTION public.sabotage()")


def test_a_failure_after_any_statement_changes_nothing(untouched: Product, folder: Folder) -> None:
    product, files = untouched, folder("000")
    apply(product.dsn, files)
    before = product.state()
    statements = split((migrations_folder() / HARDENING).read_text())
    for at in range(len(statements) + 1):
        text = ";\n".join((*statements[:at], "SELECT 1 / 0", *statements[at:])) + ";"
        (files / HARDENING).write_text(text)
        with pytest.raises(MigrationError, match="division by zero"):
            apply(product.dsn, files)
        assert at % 10 or product.state() == before
    assert product.state() == before


def test_a_failure_to_record_a_migration_undoes_it(product: Product, folder: Folder) -> None:
    files = folder("000")
    apply(product.dsn, files)
    folder("001")
    product.run("ALTER TABLE tenantproof.migrations ADD CHECK (version <> '001')")
    before = product.state()
    with pytest.raises(MigrationError):
        apply(product.dsn, files)
    assert product.state() == before


@pytest.mark.parametrize("statement", ["COMMIT", "BEGIN", "ROLLBACK", "END", "SAVEPOINT s", "COMMIT AND CHAIN"])
def test_a_migration_cannot_end_its_transaction(product: Product, folder: Folder, statement: str) -> None:
    files = folder("000")
    apply(product.dsn, files)
    before = product.state()
    (files / "002_sly.sql").write_text(f"CREATE TABLE public.left_over ();\n{statement};\nSELECT 1 / 0;")
    with pytest.raises(MigrationError, match="controls transactions"):
        apply(product.dsn, files)
    assert product.state() == before


BROKEN = [
    ("messages: orphans without a unit", "ALTER TABLE public.messages DROP CONSTRAINT messages_unit_id_fkey;"
     "UPDATE public.messages SET unit_id = md5('gone')::uuid WHERE id = md5('m1')::uuid"),
    ("units: orphans without a development", "ALTER TABLE public.units DROP CONSTRAINT units_development_id_fkey;"
     "UPDATE public.units SET development_id = md5('gone')::uuid WHERE id = md5('n1')::uuid"),
    ("developments: orphans without a tenant",
     "ALTER TABLE public.developments DROP CONSTRAINT developments_tenant_id_fkey;"
     "UPDATE public.developments SET tenant_id = md5('gone')::uuid WHERE id = md5('d1')::uuid"),
    ("tenant_members: orphans without a tenant",
     "INSERT INTO public.tenant_members (tenant_id, user_id) VALUES (md5('gone')::uuid, md5('u1')::uuid)"),
    ("tenant_members: orphans without a user",
     "INSERT INTO public.tenant_members (tenant_id, user_id) VALUES (md5('t1')::uuid, md5('gone')::uuid)"),
    ("onboarding_transactions: orphans without a tenant",
     "INSERT INTO public.onboarding_transactions (tenant_id) VALUES (md5('gone')::uuid)"),
    ("messages: tenant_id, development_id or unit_id is NULL", "UPDATE public.messages SET unit_id = NULL"),
    ("developments: tenant_id is NULL", "UPDATE public.developments SET tenant_id = NULL"),
    ("messages: misaligned with their unit", "UPDATE public.messages SET tenant_id = md5('t2')::uuid"),
    ("units: misaligned with their development", "UPDATE public.units SET tenant_id = md5('t2')::uuid"),
    ("tenants: slugs missing or used twice", "UPDATE public.tenants SET slug = 'same'"),
    ("tenant_members: memberships held twice",
     "INSERT INTO public.tenant_members (tenant_id, user_id) VALUES (md5('t1')::uuid, md5('u1')::uuid)"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "sql"), BROKEN, ids=[what for what, _ in BROKEN])
def test_rows_that_would_break_stop_it_and_are_named(product: Product, what: str, sql: str) -> None:
    product.run(sql)
    apply_to = product.state()
    text = (migrations_folder() / HARDENING).read_bytes()
    with psycopg.connect(product.dsn) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(text)
    assert f"{what}: " in str(caught.value)
    assert "nothing was changed" in str(caught.value)
    assert caught.value.sqlstate == "TP000"
    assert product.state() == apply_to


def test_orphans_are_named_by_the_verb_too(product: Product, folder: Folder) -> None:
    files = folder("000")
    apply(product.dsn, files)
    folder("001")
    product.run("INSERT INTO public.onboarding_transactions (tenant_id) VALUES (md5('gone')::uuid)")
    before = product.state()
    with pytest.raises(MigrationError, match=r"onboarding_transactions: orphans without a tenant: 1 row") as caught:
        apply(product.dsn, files)
    assert "tenantproof recover" in caught.value.remedy
    assert product.state() == before


def test_the_files_are_idempotent(product: Product) -> None:
    files = sorted(migrations_folder().glob("*.sql"))
    for path in files:
        _in_one_transaction(product, path)
    hardened = product.state()
    for path in files[1:]:
        _in_one_transaction(product, path)
        assert product.state() == hardened, path.name


def _in_one_transaction(product: Product, path: Path) -> None:
    with psycopg.connect(product.dsn) as connection:
        connection.execute(path.read_bytes())


def test_a_misaligned_message_is_refused_even_for_a_superuser(product: Product) -> None:
    apply(product.dsn, migrations_folder())
    message = (
        "INSERT INTO public.messages (tenant_id, development_id, unit_id, author, body) VALUES (%s, %s, %s, '', '')"
    )
    ids = dict(_ids(product))
    with psycopg.connect(product.dsn, autocommit=True) as connection:
        connection.execute(message, [ids["t1"], ids["d1"], ids["n1"]])
        for wrong in (("t2", "d1", "n1"), ("t1", "d2", "n1"), ("t1", "d1", "n2"), ("t2", "d2", "n1")):
            with pytest.raises(psycopg.errors.ForeignKeyViolation):
                connection.execute(message, [ids[name] for name in wrong])
        with pytest.raises(psycopg.Error, match="cannot be moved to another tenant"):
            connection.execute("UPDATE public.messages SET tenant_id = %s", [ids["t2"]])
        connection.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.Error, match="cannot be moved to another tenant"):
            connection.execute("UPDATE public.messages SET tenant_id = %s", [ids["t2"]])
        # The superuser's one exception (docs/MIGRATIONS.md): keys are not checked then, and TP311 finds the row.
        connection.execute(message, [ids["t2"], ids["d1"], ids["n1"]])
        connection.execute("RESET session_replication_role")
        catalog = Catalog(read_snapshot(connection), reference_settings())
        found = judge("TP311", catalog, stored=scan(connection, catalog))
    assert {f.object for f in found.findings} == {"public.messages"}


def _ids(product: Product) -> list[tuple[str, str]]:
    with psycopg.connect(product.dsn) as connection:
        names = ["t1", "t2", "d1", "d2", "n1", "n2"]
        return connection.execute("SELECT n, md5(n)::uuid FROM unnest(%s::text[]) n", [names]).fetchall()


def test_the_ledger_says_what_and_in_which_order(product: Product) -> None:
    applied = apply(product.dsn, migrations_folder())
    assert [a.version for a in applied][:2] == ["000", "001"]
    assert [a.seq for a in applied] == sorted(a.seq for a in applied)
    assert apply(product.dsn, migrations_folder()) == ()
    with psycopg.connect(product.dsn) as connection:
        found = status(connection, migrations_folder())
    assert (found.ledger, found.pending, found.edited, found.missing) == ("tenantproof", (), (), ())


def test_an_edited_or_missing_migration_is_noticed(product: Product, folder: Folder) -> None:
    files = folder("000", "001")
    apply(product.dsn, files)
    path = files / HARDENING
    text = path.read_text()
    path.write_text(text + "-- one more line\n")
    with pytest.raises(MigrationError, match=r"were edited since: 001_multi_tenant_hardening"):
        apply(product.dsn, files)
    path.unlink()
    with pytest.raises(MigrationError, match=r"are missing from .*: 001_multi_tenant_hardening"):
        apply(product.dsn, files)
    path.write_text(text)
    assert apply(product.dsn, files) == ()


def test_a_lower_number_added_later_is_applied_and_seen(product: Product, folder: Folder) -> None:
    files = folder("000")
    (files / "005_late.sql").write_text("CREATE TABLE app_late (id int PRIMARY KEY);")
    apply(product.dsn, files)
    (files / "003_between.sql").write_text("CREATE TABLE app_between (id int PRIMARY KEY);")
    assert [(a.version, a.seq) for a in apply(product.dsn, files)] == [("003", 3)]


def test_two_runs_at_once_apply_each_migration_once(product: Product, folder: Folder) -> None:
    files = folder("000")
    (files / "002_slow.sql").write_text("SELECT pg_sleep(0.5); CREATE TABLE app_once (id int PRIMARY KEY);")
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(apply(product.dsn, files)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 2]


SUPABASE = """
CREATE SCHEMA supabase_migrations;
CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY, statements text[], name text);
"""


def test_a_supabase_ledger_is_recognised(product: Product) -> None:
    product.run(SUPABASE)
    with psycopg.connect(product.dsn, autocommit=True) as connection:
        for path in sorted(migrations_folder().glob("*.sql")):
            version, _, name = path.stem.partition("_")
            values = [version, list(split(path.read_text())), name]
            connection.execute("INSERT INTO supabase_migrations.schema_migrations VALUES (%s, %s, %s)", values)
        found = status(connection, migrations_folder())
        assert (found.ledger, found.pending, found.edited, found.missing) == ("supabase", (), (), ())
        connection.execute(
            "UPDATE supabase_migrations.schema_migrations SET statements[2] = replace(statements[2], '5s', '5 s')"
            " WHERE version = '001'"
        )
        connection.execute("INSERT INTO supabase_migrations.schema_migrations VALUES ('20260101', '{}', 'by_hand')")
        found = status(connection, migrations_folder())
    assert [m.version for m in found.edited] == ["001"]
    assert [a.version for a in found.missing] == ["20260101"]


def test_a_ledger_that_may_not_be_read_is_an_error(product: Product) -> None:
    apply(product.dsn, migrations_folder())
    with psycopg.connect(product.dsn) as connection:
        connection.execute("SET ROLE authenticated")
        with pytest.raises(MigrationError, match="cannot be read by this role"):
            status(connection, migrations_folder())
