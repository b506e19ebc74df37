"""The rules of a tenant scope, without any I/O: what the sync and the async pool have in common."""

import logging
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, Connection, pq, sql

from pytest_tenantproof.client.statements import Statement, inspect
from pytest_tenantproof.errors import TenantScopeError

__all__ = [
    "Parameters",
    "Query",
    "Rows",
    "Rules",
    "Scope",
    "arranged",
    "check",
    "check_outside",
    "check_text",
    "enter",
    "loud",
    "quoting",
    "refused",
    "require_no_scope",
]

_log = logging.getLogger("tenantproof.client")
_here = str(Path(__file__).parent)
_scope: ContextVar["Scope | None"] = ContextVar("tenantproof_scope", default=None)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_NOBODY = str(uuid.UUID(int=0))

Quote = Callable[[str], bytes]
Query = str | sql.Composable
AnyConnection = Connection[Any] | AsyncConnection[Any]
Parameters = Sequence[Any] | Mapping[str, Any] | None


class Rows(list[Any]):
    """What a statement gave: a list of rows, its column names, and how many rows it touched."""

    def __init__(self, rows: Iterable[Any] = (), columns: Sequence[str] = (), rowcount: int = -1) -> None:
        super().__init__(rows)
        self.columns = tuple(columns)
        self.rowcount = rowcount

    def first(self) -> Any:
        """The first row, or None."""
        return self[0] if self else None


@dataclass(slots=True)
class Scope:
    """One block. `alive` ends with it; whoever keeps the handle longer holds nothing.

    `binding` is what the server said when it bound the tenant; None as long as its answer was not read.
    """

    actor: str
    tenant: str = ""
    alive: bool = True
    binding: str | None = ""
    savepoints: int = 0


@dataclass(frozen=True)
class Rules:
    """What one pool knows: its roles, the names of tenant tables, and the messages it sends.

    Messages are put together from constant parts and literals that libpq escapes, not formatted anew each time.
    """

    scoped_role: str
    service_role: str
    tables: frozenset[tuple[str, str]]

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(name for _, name in self.tables)

    @cached_property
    def _scoped(self) -> bytes:
        return sql.SQL("SET LOCAL ROLE {}; ").format(sql.Identifier(self.scoped_role)).as_bytes()

    @cached_property
    def _service(self) -> bytes:
        return sql.SQL("SET LOCAL ROLE {}; ").format(sql.Identifier(self.service_role)).as_bytes()

    def begin(self, quote: Quote, scope: Scope, *, request: str, read_only: bool) -> bytes:
        """The one message that begins a transaction and binds it."""
        values = b", ".join((quote(scope.tenant), quote(scope.actor), quote(request)))
        head = b"BEGIN READ ONLY; " if read_only else b"BEGIN; "
        return b"%b%bSELECT tenantproof.bind_tenant(%b)" % (head, self._scoped, values)

    def verified(self, quote: Quote, scope: Scope, before: bytes = b"", after: bytes = b"") -> bytes:
        """A message that verifies the binding between two commands; it goes no further where that fails."""
        values = b", ".join((quote(self.scoped_role), quote(scope.binding or "")))
        check = b"SELECT tenantproof.verify_binding(%b)" % values if scope.tenant else b""
        return b"; ".join(filter(None, (before, check, after)))

    def unbound(self) -> bytes:
        return b"BEGIN; " + self._scoped

    def cross_tenant(self, quote: Quote, actor: str, reason: str) -> tuple[bytes, bytes]:
        """Two messages: the record, committed before the work begins so that no rollback hides it; the work's BEGIN."""
        record = b"SELECT tenantproof.log_cross_tenant(%b, %b)" % (quote(reason), quote(actor))
        named = b"SELECT set_config('app.actor', %b, true)" % quote(actor)
        return b"BEGIN; %b%b; COMMIT" % (self._service, record), b"BEGIN; %b%b" % (self._service, named)

    def touched(self, statement: Statement) -> list[str]:
        """Tenant tables that a statement names. An unqualified name counts whatever schema it might mean."""
        return sorted(
            ".".join(filter(None, table))
            for table in statement.tables
            if table in self.tables or (not table[0] and table[1] in self.names)
        )


def refused(what: str, remedy: str, *, actor: str = "", tables: Iterable[str] = ()) -> TenantScopeError:
    """Logs a refusal: actor, tables and call site, never the statement or its parameters."""
    named = ", ".join(tables)
    _log.error("refused: %s (actor %s, tables %s, at %s)", what, actor or "unknown", named or "none", _call_site())
    return TenantScopeError(f"{what}{f': {named}' if named else ''}.", remedy=remedy)


def _call_site() -> str:
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_filename.startswith(_here) or "contextlib" in frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def enter(actor: object, tenant: object = None, *, tenant_needed: bool) -> Scope:
    """A new scope, current until it dies. Raises TenantScopeError for a bad tenant or actor, and inside another."""
    name = actor if isinstance(actor, str) and _TEXT.fullmatch(actor) and actor.strip() else ""
    if not name:
        raise refused("the actor is missing or malformed", "say who acts, e.g. actor='user:42'.")
    if (outer := _scope.get()) is not None and outer.alive:
        raise refused("a scope was opened inside another", "end one block before the next.", actor=name)
    scope = Scope(name, _tenant(tenant, name) if tenant_needed else "")
    _scope.set(scope)
    return scope


def _tenant(tenant: object, actor: str) -> str:
    remedy = "pass a uuid.UUID or its text in the usual form."
    if not isinstance(tenant, str | uuid.UUID):
        raise refused(f"the tenant id is a {type(tenant).__name__}", remedy, actor=actor)
    text = str(tenant).lower()
    if not _UUID.fullmatch(text):
        raise refused("the tenant id is malformed", remedy, actor=actor)
    if text == _NOBODY:
        raise refused("the tenant id is all zeros", "find out where it was lost.", actor=actor)
    return text


def quoting(connection: AnyConnection) -> Quote:
    """libpq's own escaping of literals, for the settings of this session."""
    escape = pq.Escaping(connection.pgconn).escape_literal
    return lambda text: bytes(escape(text.encode()))


def check_text(what: str, text: object, actor: str, *, shortest: int = 0) -> str:
    """`text` where it is printable and long enough. Raises TenantScopeError."""
    if not isinstance(text, str) or len(text.strip()) < shortest or (text and not _TEXT.fullmatch(text)):
        raise refused(f"the {what} is missing or malformed", f"give a {what} of one printable line.", actor=actor)
    return text


def loud(actor: str, reason: str) -> None:
    """Cross-tenant work is logged, whatever the level of detail."""
    _log.warning("all tenants: %s (actor %s, at %s)", reason, actor, _call_site())


def check(scope: Scope, query: Query, parameters: object, connection: AnyConnection) -> Statement:
    """The statement to send in a scope. Raises TenantScopeError for what no scope may send."""
    if not scope.alive:
        raise refused("the block of this handle has ended", "open a new one.", actor=scope.actor)
    return _checked(scope.actor, query, parameters, connection)


def require_no_scope() -> None:
    """Raises TenantScopeError inside a scope, where the pool itself is not to be used."""
    if (scope := _scope.get()) is not None and scope.alive:
        raise refused("the pool was used inside a scope", "use the handle of the block.", actor=scope.actor)


def check_outside(rules: Rules, query: Query, parameters: object, connection: AnyConnection) -> Statement:
    """The statement to send outside any scope. Raises TenantScopeError for one that touches a tenant table."""
    statement = _checked("", query, parameters, connection)
    if tables := rules.touched(statement):
        remedy = "name the tenant: with pool.tenant(tenant_id, actor=...) as db."
        raise refused("tenant data was asked for outside a tenant scope", remedy, tables=tables)
    return statement


def _checked(actor: str, query: Query, parameters: object, connection: Any) -> Statement:
    text = query.as_string(connection) if isinstance(query, sql.Composable) else query
    if not isinstance(text, str):
        raise refused(f"a statement is a {type(query).__name__}", "pass text or psycopg.sql.", actor=actor)
    # The parser here reads text as the server does only under these two settings.
    status = connection.pgconn.parameter_status
    if status(b"client_encoding") != b"UTF8" or status(b"standard_conforming_strings") != b"on":
        remedy = "use client_encoding UTF8 and standard_conforming_strings on."
        raise refused("the session reads text in another way", remedy, actor=actor)
    statement = inspect(text, parameters=parameters is not None)
    if statement.refusal:
        names = [".".join(filter(None, table)) for table in sorted(statement.tables)]
        raise refused(f"a statement was refused: {statement.refusal}", "see docs/CLIENT.md.", actor=actor, tables=names)
    return statement


def arranged(statement: Statement, parameters: Parameters) -> Sequence[Any]:
    """The parameters in the order of their numbers. Raises TypeError or KeyError where they do not fit."""
    if parameters is None:
        return ()
    if isinstance(parameters, Mapping):
        return [parameters[str(name)] for name in statement.order]
    if isinstance(parameters, str | bytes) or len(parameters) != len(statement.order):
        raise TypeError(f"the statement has {len(statement.order)} placeholders, and another number of parameters")
    if any(isinstance(name, str) for name in statement.order):
        raise TypeError("the statement has named placeholders: pass a mapping")
    return parameters
