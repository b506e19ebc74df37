"""What follows from a conjunction of facts: equalities, keys, references, memberships."""

from collections.abc import Iterator, Mapping
from itertools import permutations

from pytest_tenantproof.catalog.model import Constraint, Table
from pytest_tenantproof.policy.terms import Apply, Closure, Col, Conj, Term
from pytest_tenantproof.policy.world import World

__all__ = ["Facts"]


class Facts:
    """Answers whether a row is the caller's own, given what holds. `rows`: the table of each row number."""

    def __init__(
        self,
        world: World,
        facts: Conj,
        rows: Mapping[int, Table],
        *,
        tenants: frozenset[Term],
        users: frozenset[Term],
    ) -> None:
        self.world = world
        self.rows = rows
        self.tenants = tenants
        self.users = users
        self.closure = Closure(facts)
        self.extended = False
        """Whether keys and references of these very tables were needed."""

    def is_bound(self, row: int) -> bool:
        """Whether the row is provably of the caller's tenant. Cheap ways first."""
        return self._bound(row, frozenset()) or (self._extend() and self._bound(row, frozenset()))

    def _bound(self, row: int, seen: frozenset[int]) -> bool:
        table = self.rows[row]
        columns = self.world.tenant_columns(table)
        if any(self.is_tenant(Col(row, name)) for name in columns):
            return True
        return any(
            self._bound(parent, seen | {row})
            for parent in self._parents(row, table)
            if parent not in seen and parent != row
        )

    def is_own(self, row: int) -> bool:
        """Whether the row names the caller as its user: a membership, a profile."""
        column = self.world.user_column(self.rows[row])
        return column is not None and self.is_user(Col(row, column))

    def is_colleague(self, row: int) -> bool:
        """Whether the row is a user whom another row names as a member of the caller's tenant."""
        column = self.world.user_column(self.rows[row])
        return column is not None and any(
            other != row
            and self.world.is_membership(table)
            and (user := self.world.user_column(table)) is not None
            and self.closure.same(Col(other, user), Col(row, column))
            and self._bound(other, frozenset())
            for other, table in self.rows.items()
        )

    def is_tenant(self, term: Term) -> bool:
        """Whether a value is provably the caller's tenant."""
        return any(
            self._trusted(other, self.tenants) or (isinstance(other, Col) and self.is_membership(other))
            for other in self.closure.members(term)
        )

    def is_membership(self, column: Col) -> bool:
        """Whether a column is the tenant of one of the caller's own memberships; the guarded row proves nothing."""
        table = self.rows.get(column.alias)  # none: the argument of a function
        return (
            column.alias != 0
            and table is not None
            and self.world.is_membership(table)
            and column.name in self.world.tenant_columns(table)
            and self.is_own(column.alias)
        )

    def is_user(self, term: Term) -> bool:
        return any(self._trusted(other, self.users) for other in self.closure.members(term))

    @staticmethod
    def _trusted(term: Term, trusted: frozenset[Term]) -> bool:
        if isinstance(term, Apply) and term.name == "elements":
            term = Apply("elements", term.args[:1])
        return term in trusted

    def _parents(self, row: int, table: Table) -> Iterator[int]:
        """Rows that this one is known to hang below, by the declared reference."""
        key = self.world.parent_key(table)
        if key is None:
            return
        for other, candidate in self.rows.items():
            if candidate.name == key.target and self._joined(row, other, key, key.target_columns):
                yield other

    def _joined(self, row: int, other: int, key: Constraint, columns: tuple[str, ...]) -> bool:
        pairs = zip(key.columns, key.target_columns, strict=True)
        return all(self.closure.same(Col(row, a), Col(other, b)) for a, b in pairs if b in columns)

    def _extend(self) -> bool:
        """Adds what keys and references imply. False when that was done, or gave nothing new."""
        if self.extended or len(self.rows) < 2:
            return False
        self.extended = again = True
        found = False
        while again:
            again = False
            present = {c.alias for c in self.closure.columns() if c.alias in self.rows}
            for a, b in permutations(sorted(present), 2):
                news = self._same_row(a, b) | self._referenced(a, b)
                again, found = again or news, found or news
        return found

    def _same_row(self, a: int, b: int) -> bool:
        """Two rows of one table with equal unique keys are one row."""
        table = self.rows[a]
        if a > b or table.name != self.rows[b].name:
            return False
        for columns in _unique(table):
            if all(self.closure.same(Col(a, c), Col(b, c)) for c in columns):
                merged = [self.closure.merge(Col(a, c.name), Col(b, c.name)) for c in table.columns]
                return any(merged)
        return False

    def _referenced(self, a: int, b: int) -> bool:
        """A reference that holds: where part of it finds the one row, the rest of it agrees."""
        news = False
        target = self.rows[b]
        for key in self.rows[a].constraints:
            if key.kind != "foreign" or key.target != target.name or not self._always(self.rows[a], key):
                continue
            found = (u for u in _unique(target) if set(u) <= set(key.target_columns))
            if any(self._joined(a, b, key, u) for u in found):
                pairs = zip(key.columns, key.target_columns, strict=True)
                merged = [self.closure.merge(Col(a, x), Col(b, y)) for x, y in pairs]
                news = news or any(merged)
        return news

    @staticmethod
    def _always(table: Table, key: Constraint) -> bool:
        """Whether the reference holds for every row: enforced, validated, at once, and skipped by no NULL."""
        columns = [table.column(name) for name in key.columns]
        present = all(c is not None and c.not_null and c.not_null_valid for c in columns)
        return key.validated and key.enforced and key.triggers_enabled and not key.deferrable and present


def _unique(table: Table) -> list[tuple[str, ...]]:
    """The columns of each unique key that holds for all rows."""
    return [
        index.columns
        for index in table.indexes
        if index.unique and index.valid and not index.predicate and index.columns and "" not in index.columns
    ]
