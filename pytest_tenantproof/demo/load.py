"""Loads the demo data. Only for scratch targets: `tenantproof seed-demo` is the gated way to any other."""

from importlib import resources
from typing import Any

import psycopg

from pytest_tenantproof.target import connect

__all__ = ["fill_demo", "load_demo"]


def load_demo(dsn: str) -> None:
    """Fills the reference schema in one transaction, as a role that row security does not bind."""
    connection = connect(dsn, limits={})
    try:
        fill_demo(connection)
    finally:
        connection.close()


def fill_demo(connection: psycopg.Connection[Any]) -> None:
    """load_demo() on a connection that is open already."""
    text = resources.files(__package__).joinpath("demo.sql").read_text(encoding="utf-8")
    with connection.transaction():
        connection.execute("SELECT set_config('app.request_id', 'seed-demo', true)")
        connection.execute(text.encode())
