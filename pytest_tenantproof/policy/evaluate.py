"""Reads expressions for one role: what they may be, and what holds where they are true."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pytest_tenantproof.catalog.model import Function, Table
from pytest_tenantproof.policy import calls, conditions, query, values
from pytest_tenantproof.policy.parse import expression
from pytest_tenantproof.policy.query import Branch
from pytest_tenantproof.policy.scope import Alts, Scope
from pytest_tenantproof.policy.terms import (
    TRUE,
    Alt,
    Col,
    Const,
    Dnf,
    Equal,
    NotNull,
    NotUnderstood,
    Term,
    Unknown,
    both,
    either,
    given,
)
from pytest_tenantproof.policy.world import THIS, World

__all__ = ["Evaluator"]


_WAYS = 8


def _said(atom: Equal | NotNull) -> Equal | NotNull:
    """Without its source, which is another policy's than the one that is read."""
    return replace(atom, source=None)


class Evaluator:
    """One evaluation. What it met on the way stays readable: rows, functions, settings.

    `role`: who asks. `nominal`: functions without arguments that are taken as given, by signature. `row`:
    the table whose row is alias 0, if any.
    """

    def __init__(
        self, world: World, *, role: str = "", nominal: frozenset[str] = frozenset(), row: Table | None = None
    ) -> None:
        self.world = world
        self.role = role
        self.nominal = nominal
        self.rows: dict[int, Table] = {} if row is None else {0: row}
        self.as_invoker: set[str] = set()
        self.past_policies: set[int] = set()
        self.relied_on: set[str] = set()
        self.settings_read: set[str] = set()
        self.selects: list[tuple[tuple[int, ...], Dnf, tuple[Dnf, ...]]] = []
        self._given: tuple[Dnf, ...] = ()
        self._seeing: list[str] = [] if row is None else [row.name]
        self._numbers = itertools.count(1)

    def row_scope(self, table: Table) -> Scope:
        """Where a policy expression of the table is read: the row, as alias 0."""
        columns: dict[str, Alts] = {c.name: (Alt(Col(0, c.name, c.type)),) for c in table.columns}
        own = table.name.rpartition(".")[2].strip('"')
        return Scope(sources={THIS: columns}, aliases={own: THIS})

    def values(self, node: Any, scope: Scope) -> Alts:
        return values.values(self, node, scope)

    def truth(self, node: Any, scope: Scope, *, sign: bool) -> Dnf:
        return conditions.truth(self, node, scope, sign=sign)

    def fails(self, node: Any, scope: Scope) -> Dnf:
        return conditions.fails(self, node, scope)

    def when(self, node: Any, arm: Any, scope: Scope) -> Dnf:
        return conditions.when(self, node, arm, scope)

    def never_null(self, node: Any, scope: Scope) -> bool:
        return conditions.never_null(self, node, scope)

    def is_condition(self, node: Any) -> bool:
        return conditions.is_condition(node)

    def boolean(self, node: Any, scope: Scope) -> Alts:
        """A condition as a value: true under one set of facts, false under another."""
        return (
            *given((Alt(Const("true")),), self.truth(node, scope, sign=True)),
            *given((Alt(Const("false")),), self.truth(node, scope, sign=False)),
        )

    def call(self, node: Any, scope: Scope) -> Alts:
        return calls.call(self, node, scope)

    def predicate(self, node: Any, scope: Scope, *, sign: bool) -> Dnf | None:
        return calls.predicate(self, node, scope, sign=sign)

    def targets(self, node: Any, scope: Scope) -> tuple[Function, ...]:
        return calls.targets(self, node, scope)

    def call_elements(self, node: Any, scope: Scope) -> Alts:
        return calls.call_elements(self, node, scope)

    def elements(self, node: Any, scope: Scope) -> Alts:
        return values.elements(self, node, scope)

    def branches(self, select: Any, scope: Scope, *, collapsed: bool = False) -> tuple[Branch, ...]:
        return query.branches(self, select, scope, collapsed=collapsed)

    def rows_of(self, select: Any, scope: Scope) -> Alts:
        return query.column(self, select, scope)

    def array_rows(self, select: Any, scope: Scope) -> Alts:
        return query.array_of(self, select, scope)

    def read(self, table: Table, *, invoker: bool) -> int:
        """The number of a new row of the table, read with the caller's rights or past them."""
        number = next(self._numbers)
        self.rows[number] = table
        if invoker:
            self.as_invoker.add(table.name)
        else:
            self.past_policies.add(number)
        return number

    def selected(self, rows: tuple[int, ...], where: Dnf) -> None:
        """Notes the rows that one SELECT reads, when it returns them, and what holds where it is run."""
        self.selects.append((rows, where, self._given))

    @contextmanager
    def under(self, guard: Dnf) -> Iterator[None]:
        """Where the guard holds: what is evaluated inside is reached no other way."""
        before = self._given
        self._given = (*before, guard)
        try:
            yield
        finally:
            self._given = before

    def visible(self, table: Table, number: int) -> Dnf:
        """What holds of each row of a table that the role sees: its own SELECT policies. What they say that is not
        understood is left out, and so is everything where a table is looked up to decide about itself.

        Memberships and the registry count only for what a policy itself asks of them: what they show their members
        is wider by the next policy, for colleagues, say, and every table that looks them up with it.
        """
        if self.world.is_membership(table) or table.name == self.world.settings.tenant_table:
            return TRUE
        permissive, restrictive = self.world.shown_by(table, self.role)
        if not permissive or table.name in self._seeing:
            return TRUE
        columns: dict[str, Alts] = {c.name: (Alt(Col(number, c.name, c.type)),) for c in table.columns}
        scope = Scope(sources={THIS: columns}, aliases={table.name.rpartition(".")[2].strip('"'): THIS})
        self._seeing.append(table.name)
        try:
            parts = [
                [self.truth(expression(t), scope, sign=True) for t in texts] for texts in (permissive, restrictive)
            ]
            found = both((either(parts[0]), *parts[1]))
        except NotUnderstood:
            return TRUE
        finally:
            self._seeing.pop()
        known = dict.fromkeys(tuple(_said(a) for a in conj if not isinstance(a, Unknown)) for conj in found)
        return tuple(known) if len(known) <= _WAYS else TRUE

    def fresh(self) -> int:
        return next(self._numbers)

    def is_present(self, term: Term) -> bool:
        """Whether the term is a column of the guarded row that cannot be NULL."""
        if not isinstance(term, Col) or term.alias != 0 or 0 not in self.rows:
            return False
        column = self.rows[0].column(term.name)
        return column is not None and column.not_null and column.not_null_valid

    def current_user(self, scope: Scope) -> Term | None:
        """current_user as a constant; None inside SECURITY DEFINER code, where it is the owner."""
        return Const(self.role) if self.role and scope.invoker else None
