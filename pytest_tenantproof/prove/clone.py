"""Rebuilds a snapshot in an empty database and says what could not be rebuilt."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from pytest_tenantproof.catalog.model import Function, Snapshot
from pytest_tenantproof.prove import ddl

__all__ = ["Clone", "rebuild"]


@dataclass(frozen=True, slots=True)
class Clone:
    """`missing`: statements that failed. `stubbed`: objects of extensions the server lacks, by signature only."""

    missing: tuple[str, ...]
    stubbed: tuple[str, ...]


def rebuild(connection: psycopg.Connection[Any], snapshot: Snapshot) -> Clone:
    """Runs the snapshot's DDL on an empty database, as superuser in autocommit."""
    superuser = connection.info.user
    connection.execute("SET check_function_bodies = off")
    missing = run_all(connection, ddl.foundation(snapshot, superuser))
    absent = {name for name in _extensions(snapshot) if name not in _present(connection)}
    stubs = [f for f in snapshot.functions if f.extension in absent]
    run_all(connection, map(_stub, stubs))
    missing += run_all(connection, ddl.objects(snapshot))
    missing += run_all(connection, ddl.finishing(snapshot, superuser))
    connection.execute("RESET check_function_bodies")
    return Clone(tuple(missing), tuple(sorted(f.signature for f in stubs)))


def _extensions(snapshot: Snapshot) -> set[str]:
    return {extension.name for extension in snapshot.extensions}


def _present(connection: psycopg.Connection[Any]) -> set[str]:
    return {row[0] for row in connection.execute("SELECT extname FROM pg_extension")}


def _stub(function: Function) -> str:
    arguments = ", ".join(function.arguments)
    return f"CREATE FUNCTION {function.name}({arguments}) RETURNS {function.returns} LANGUAGE sql AS 'SELECT NULL'"


def run_all(connection: psycopg.Connection[Any], statements: Iterable[str]) -> list[str]:
    """Runs statements until no more of them succeed; returns those left, with why, without any values."""
    left, errors = list(statements), dict[str, str]()
    while left:
        failed = []
        for statement in left:
            try:
                with connection.transaction() if connection.autocommit else contextlib.nullcontext():
                    connection.execute(statement.encode())
            except (psycopg.errors.DuplicateObject, psycopg.errors.DuplicateTable, psycopg.errors.DuplicateFunction):
                continue
            except psycopg.Error as error:
                failed.append(statement)
                errors[statement] = error.diag.message_primary or type(error).__name__
        if len(failed) == len(left):
            break
        left = failed
    return [f"{' '.join(statement.split())[:120]}: {errors[statement]}" for statement in left]
