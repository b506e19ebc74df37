"""What the sync and the async pool have in common: their constructor, and every message but the sending of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from psycopg.rows import RowFactory, tuple_row

from pytest_tenantproof.client.scope import (
    AnyConnection,
    Parameters,
    Query,
    Rules,
    Scope,
    arranged,
    check,
    quoting,
    refused,
)
from pytest_tenantproof.client.session import read_rules

__all__ = ["Handle", "Pool"]

_PREPARED_AFTER = 5


class Handle:
    """A transaction's connection, scope and rules. Whatever is sent through it is checked here first."""

    def __init__(self, connection: AnyConnection, scope: Scope, rules: Rules) -> None:
        self._connection: Any = connection
        self._scope = scope
        self._rules = rules

    def _one(self, query: Query, parameters: Parameters) -> tuple[bytes, Sequence[Any]]:
        statement = check(self._scope, query, parameters, self._connection)
        return statement.text.encode(), arranged(statement, parameters)

    def _many(self, query: Query, rows: Iterable[Any]) -> tuple[bytes, list[Sequence[Any]]]:
        statement = check(self._scope, query, (), self._connection)
        return statement.text.encode(), [arranged(statement, row) for row in rows]

    def _savepoint(self) -> tuple[bytes, bytes, bytes]:
        """The messages that begin the next savepoint, roll it back and verify, and release it."""
        check(self._scope, "SELECT", None, self._connection)
        self._scope.savepoints += 1
        name = b"tenantproof_%d" % self._scope.savepoints
        back = self._rules.verified(quoting(self._connection), self._scope, before=b"ROLLBACK TO SAVEPOINT " + name)
        return b"SAVEPOINT " + name, back, b"RELEASE SAVEPOINT " + name

    def _ending(self) -> bytes:
        """The message that verifies and commits. Nothing can be sent any more."""
        self._scope.alive = False
        return self._rules.verified(quoting(self._connection), self._scope, after=b"COMMIT")


class Pool:
    """Connections of a role that can reach one tenant a transaction.

    `tenant_tables` names the tables that only a tenant scope may touch; default: every relation with a tenant
    column. `cross_tenant_dsn` logs in as the role for all_tenants(); without it there is no cross-tenant work.
    `prepare` keeps statements that come again prepared on their connection, as psycopg does by default: for
    connections without a pooler in between, or one that knows protocol-level prepared statements.
    Raises TenantScopeError, when it opens, for a login that could get round row security.
    """

    def __init__(
        self,
        dsn: str,
        *,
        tenant_tables: Iterable[str] | None = None,
        cross_tenant_dsn: str = "",
        config: str | Path | None = None,
        min_size: int = 1,
        max_size: int = 10,
        timeout: float = 30.0,
        row_factory: RowFactory[Any] = tuple_row,
        prepare: bool = False,
    ) -> None:
        self._dsn, self._cross_dsn = dsn, cross_tenant_dsn
        self._given = list(tenant_tables or ()), config
        self._sizes = {"min_size": min_size, "max_size": max_size, "timeout": timeout}
        threshold = _PREPARED_AFTER if prepare else None
        self._kwargs = {"autocommit": True, "prepare_threshold": threshold, "row_factory": row_factory}
        self._made()

    def _made(self) -> None:
        """What is to happen as soon as there is a pool; nothing by default."""

    def _read_rules(self) -> Rules:
        return read_rules(self._dsn, *self._given)

    @staticmethod
    def _of(pool: Any) -> Any:
        if pool is None:
            raise refused(
                "this pool is not open, or has no login for cross-tenant work", "use `with`; pass cross_tenant_dsn."
            )
        return pool
