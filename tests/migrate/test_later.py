"""The later migrations are all or nothing too, and none waits for a lock without end."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from pglast import split

from pytest_tenantproof.errors import MigrationError
from pytest_tenantproof.migrate import apply, ledger, migrations_folder, status
from pytest_tenantproof.target import find_bin, start
from tests.migrate.conftest import ROWS, Product

Folder = Callable[..., Path]
LATER = sorted(path for path in migrations_folder().glob("*.sql") if path.name[:3] > "001")


@pytest.fixture
def alone() -> Iterator[Product]:
    """A hardened product on a server of its own: roles are the cluster's, and none may be left behind."""
    with start(find_bin(18)) as server:
        product = Product(server.dsn())
        product.run((migrations_folder() / "000_baseline.sql").read_text())
        product.run(ROWS)
        yield product


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.long)])
def test_a_failure_after_any_statement_of_a_later_migration_changes_nothing(
    alone: Product, folder: Folder, step: int
) -> None:
    files = folder("000", "001")
    apply(alone.dsn, files)
    assert [path.name[:3] for path in LATER] == ["002", "003", "004", "005", "006"]
    for path in LATER:
        before, statements = alone.state(), split(path.read_text())
        for at in sorted({*range(1, len(statements), step), len(statements)}):
            text = ";\n".join((*statements[:at], "SELECT 1 / 0", *statements[at:])) + ";"
            (files / path.name).write_text(text)
            with pytest.raises(MigrationError, match=f"{path.stem} failed and changed nothing: division by zero"):
                apply(alone.dsn, files)
            assert alone.state() == before, f"{path.name}, statement {at} left a trace"
        folder(path.name[:3])
        assert [a.version for a in apply(alone.dsn, files)] == [path.name[:3]]
        assert alone.state() != before


def test_every_migration_bounds_its_waiting() -> None:
    for path in migrations_folder().glob("*.sql"):
        assert re.search(r"^SET LOCAL lock_timeout = '5s';$", path.read_text(), re.M), path.name


@pytest.mark.parametrize(
    "held",
    [
        "SELECT count(*) FROM public.messages",
        "UPDATE public.units SET label = label",
        "LOCK TABLE public.tenants IN SHARE ROW EXCLUSIVE MODE",
    ],
)
def test_a_table_that_is_held_stops_the_hardening_in_time(product: Product, folder: Folder, held: str) -> None:
    """A reader, a writer and somebody's DDL. The bound is shortened, so that the test is."""
    files = folder("000")
    apply(product.dsn, files)
    folder("001", change=lambda text: text.replace("lock_timeout = '5s'", "lock_timeout = '400ms'"))
    before = product.state()
    with psycopg.connect(product.dsn) as holder:
        holder.execute(held.encode())
        began = time.monotonic()
        with pytest.raises(MigrationError, match="failed and changed nothing: canceling statement due to lock") as told:
            apply(product.dsn, files)
        assert 0.4 <= time.monotonic() - began < 4
        assert "another session holds the table" in told.value.remedy
        assert product.state() == before
        holder.rollback()
    assert [a.version for a in apply(product.dsn, files)] == ["001"]


def test_a_run_that_never_ends_is_not_waited_for_for_ever(
    product: Product, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = folder("000")
    monkeypatch.setattr(ledger, "_PATIENCE", "300ms")
    with psycopg.connect(product.dsn) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [ledger._LOCK])
        with pytest.raises(MigrationError, match="another run has been migrating this database"):
            apply(product.dsn, files)
        with psycopg.connect(product.dsn) as connection:
            assert status(connection, files).ledger == ""
        waiting = threading.Timer(0.1, holder.rollback)
        waiting.start()
        assert len(apply(product.dsn, files)) == 1
        waiting.join()
