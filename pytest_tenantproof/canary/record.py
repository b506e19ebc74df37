"""Keeps readings in canary_runs, for trends and for the next run's watermark."""

from typing import Any

import psycopg

from pytest_tenantproof.canary.measure import Readings

__all__ = ["record_readings"]


def record_readings(connection: psycopg.Connection[Any], target: str, readings: Readings) -> int:
    """Adds the readings as a role that may INSERT into canary_runs, and returns how many. Raises psycopg.Error.

    A run in which a canary could not look is never a whole one: the next run counts everything again.
    """
    whole = readings.whole and not readings.problems
    rows = [(readings.at, target, whole, r.canary, r.object, float(r.value), str(r.level)) for r in readings.taken]
    with connection.cursor() as cursor, connection.transaction():
        cursor.executemany(
            "INSERT INTO public.canary_runs (run_at, target, whole, canary, object, value, level)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            rows,
        )
    return len(rows)
