"""What an attack does is undone at once: each in a savepoint of its own."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

__all__ = ["last", "savepoint"]


@contextlib.contextmanager
def savepoint(connection: psycopg.Connection[Any], *statements: str) -> Iterator[Callable[[], psycopg.Cursor[Any]]]:
    """Undoes what happens inside, also when it ends in an error.

    With statements, the block gets a function that runs them (once, in one round trip together with the savepoint)
    and returns the cursor of the last.
    """
    if not statements:
        connection.execute("SAVEPOINT tp_probe")
    try:
        yield lambda: last(connection.execute("; ".join(("SAVEPOINT tp_probe", *statements)).encode()))
    finally:
        connection.execute("ROLLBACK TO SAVEPOINT tp_probe; RELEASE SAVEPOINT tp_probe")


def last(cursor: psycopg.Cursor[Any]) -> psycopg.Cursor[Any]:
    """The cursor at the result of its last statement."""
    while cursor.nextset():
        pass
    return cursor
