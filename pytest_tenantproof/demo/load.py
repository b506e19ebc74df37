"""Loads the demo data. Only for scratch targets: `tenantproof seed-demo` is the gated way to any other."""

from importlib import resources

from pytest_tenantproof.target import connect

__all__ = ["load_demo"]


def load_demo(dsn: str) -> None:
    """Fills the reference schema in one transaction, as a role that row security does not bind."""
    text = resources.files(__package__).joinpath("demo.sql").read_text(encoding="utf-8")
    connection = connect(dsn, limits={})
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('app.actor', 'system:demo', true)")
            connection.execute(text.encode())
    finally:
        connection.close()
