"""Whether events are in the order of their clock, and none is from the future."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Table

__all__ = ["Order", "order"]

_TIMEOUT = "20s"
_NEWEST = 100_000
_CLOCK = "clock_timestamp()"
_FUTURE = "SELECT count(*) FROM {log} WHERE {at} > clock_timestamp() + make_interval(secs => %(skew)s)"
# Numbers are drawn and clocks read one right after the other, so only another session's may come between.
_BACK = """
SELECT count(*), count(*) FILTER (WHERE e.at < e.high - make_interval(secs => %(skew)s))
FROM (SELECT n.at, max(n.at) OVER (ORDER BY n.number ROWS UNBOUNDED PRECEDING) AS high
      FROM (SELECT {at} AS at, {number} AS number FROM {log} ORDER BY {number} DESC LIMIT %(newest)s) n) e
"""


@dataclass(frozen=True, slots=True)
class Order:
    """One log: how many of its newest events were looked at, how many are dated before an earlier one (`back`), how
    many of all are from the future; or why that is not known."""

    log: str
    events: int = 0
    future: int = 0
    back: int = 0
    unknown: str = ""


def order(connection: psycopg.Connection[Any], catalog: Catalog, skew_s: float) -> tuple[Order, ...]:
    """Every audit log, reading only. Raises psycopg.Error only when the session ends."""
    roots = (log for log in catalog.audit_tables if not log.is_partition)
    return tuple(_look(connection, log, skew_s) for log in roots)


def _look(connection: psycopg.Connection[Any], log: Table, skew_s: float) -> Order:
    clock = next((column.name for column in log.columns if column.default == _CLOCK), "")
    number = next((column.name for column in log.columns if column.identity or "nextval" in column.default), "")
    if not clock or not number:
        return Order(log.name, unknown=f"it has no column of the default {_CLOCK}, or no running number")
    names = {"log": sql.SQL(log.name), "at": sql.Identifier(clock), "number": sql.Identifier(number)}
    values = {"skew": skew_s, "newest": _NEWEST}
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL statement_timeout = '{_TIMEOUT}'; SET LOCAL row_security = off")
            future = connection.execute(sql.SQL(_FUTURE).format(**names), values).fetchone() or (0,)
            newest = connection.execute(sql.SQL(_BACK).format(**names), values).fetchone() or (0, 0)
    except psycopg.Error as error:
        if connection.closed:
            raise
        return Order(log.name, unknown=f"reading it ended in {error.sqlstate}")
    return Order(log.name, newest[0], future[0], newest[1])
