"""The whole attack: two tenants, every table, view and function, every identity. Nothing of it stays."""

from collections.abc import Iterable
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.probes.matrix import Matrix, parts
from pytest_tenantproof.probes.probed import PREPARED, Probed, joined
from pytest_tenantproof.probes.turns import attacking, is_superuser, outreaching

__all__ = ["probe", "probe_share"]


def probe(connection: psycopg.Connection[Any], catalog: Catalog) -> Probed:
    """Attacks the database that the session is connected to, as a role that may write its tables.

    Inside an open transaction it works in that one. Every write is rolled back. Raises psycopg.Error only when
    the session itself ends.
    """
    every = range(len(parts(catalog)))
    return joined(len(every), [_attack(connection, catalog, every, beside=False)])


def probe_share(connection: psycopg.Connection[Any], catalog: Catalog, take: Iterable[int]) -> dict[int, Probed]:
    """The same for some of the parts(), by their numbers, while other sessions attack others.

    `take` is asked for the next part only when it can be begun. What met a lock of another session is done again
    when no other attack runs; so is all of it where ALTER TABLE cannot be avoided.
    """
    done = _attack(connection, catalog, take, beside=not _alone(connection, catalog))
    if done[PREPARED].disturbed:
        return _attack(connection, catalog, take, beside=False)
    again = [number for number, part in done.items() if part.disturbed]
    return done | _attack(connection, catalog, again, beside=False) if again else done


def _attack(
    connection: psycopg.Connection[Any], catalog: Catalog, take: Iterable[int], *, beside: bool
) -> dict[int, Probed]:
    with attacking(connection, beside=beside):
        matrix, numbered = Matrix(connection, catalog, superuser=is_superuser(connection)), parts(catalog)
        done = {PREPARED: matrix.prepared}
        if not (beside and matrix.prepared.disturbed):
            done |= {number: matrix.attack(numbered[number]) for number in take}
        return done


def _alone(connection: psycopg.Connection[Any], catalog: Catalog) -> bool:
    """Whether triggers have to be disabled by ALTER TABLE, which waits for every other session with rows there."""
    triggers = any(t.triggers for t in catalog.isolated_tables)
    return any(outreaching(catalog)) or (triggers and not is_superuser(connection))
