"""The binding travels with BEGIN and its check with COMMIT: a transaction waits for the server as often as without."""

from pathlib import Path

import psycopg
from psycopg_pool import ConnectionPool

from pytest_tenantproof.client import TenantPool
from tests.client.conftest import CONFIG, Product

SELECT = "SELECT label FROM units WHERE tenant_id = %s"


def waits(connection: psycopg.Connection[object], file: Path) -> int:
    """How often the client told the server that it waits for an answer, by libpq's own trace."""
    connection.pgconn.untrace()
    lines = file.read_text().splitlines()
    return sum(line.startswith("F\t") and line.split("\t")[2] in ("Query", "Sync") for line in _plain(lines))


def _plain(lines: list[str]) -> list[str]:
    """Without the time that each line begins with."""
    return [line.partition("\t")[2] if line[:1].isdigit() else line for line in lines]


def test_as_many_round_trips_as_plain_psycopg(product: Product, tmp_path: Path) -> None:
    ours, plain = tmp_path / "ours", tmp_path / "plain"
    with TenantPool(product.backend, config=CONFIG, max_size=1) as pool, ours.open("w") as file:
        connection = pool._pool.getconn()  # type: ignore[union-attr]
        pool._pool.putconn(connection)  # type: ignore[union-attr]
        connection.pgconn.trace(file.fileno())
        with pool.tenant(product.one, actor="user:1") as db:
            assert db.execute(SELECT, [product.one])
        mine = waits(connection, ours)
    with ConnectionPool(product.admin, min_size=1, max_size=1, open=True) as pool_, plain.open("w") as file:
        with pool_.connection() as connection:
            connection.pgconn.trace(file.fileno())
            assert connection.execute(SELECT.encode(), [product.one]).fetchall()
        theirs = waits(connection, plain)
    assert (mine, theirs) == (3, 3)
