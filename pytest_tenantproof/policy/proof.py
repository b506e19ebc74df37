"""Combines policies as Postgres does and proves that what is left is the caller's own tenant's rows.

Source: PostgreSQL documentation, "Row Security Policies" and CREATE POLICY: permissive policies are OR-ed,
restrictive ones AND-ed, no permissive policy means no row; WITH CHECK defaults to USING; policies apply by
membership and PUBLIC. Each command is proven by its own policies alone: that INSERT ... RETURNING or an
UPDATE with a WHERE clause must pass SELECT policies as well only takes rows away.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_tenantproof.catalog.model import Function, Policy, Table
from pytest_tenantproof.config import DerivedTable
from pytest_tenantproof.policy.closure import Facts
from pytest_tenantproof.policy.definer import leak, statements
from pytest_tenantproof.policy.evaluate import Evaluator
from pytest_tenantproof.policy.parse import calls, expression, relations, render
from pytest_tenantproof.policy.terms import (
    Apply,
    Col,
    Conj,
    Const,
    Equal,
    NotNull,
    NotUnderstood,
    Term,
    Unknown,
    both,
)
from pytest_tenantproof.policy.trust import Trust
from pytest_tenantproof.policy.world import THIS, World

__all__ = ["COMMANDS", "Gap", "Prover"]

COMMANDS = ("SELECT", "INSERT", "UPDATE", "DELETE")


_Open = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """A policy that lets a role at rows that are not provably its tenant's.

    `clause` is USING or WITH CHECK; `expression` is the part that blocked the proof, `reason` why.
    """

    policy: str
    command: str
    clause: str
    reason: str
    expression: str = ""


class Prover:
    """Proofs on one catalog. Equal policies on tables of equal shape are proven once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.trust = Trust(world)
        self._calls: dict[str, tuple[str, ...]] = {}
        self._reads: dict[frozenset[str], frozenset[str]] = {}
        self._cache: dict[object, _Open] = {}
        self._bound: set[object] = set()
        self._tied: set[str] = set()

    def evaluator(self, table: Table | None = None, role: str = "") -> Evaluator:
        return Evaluator(self.world, role=role, nominal=frozenset(self.trust.nominal), row=table)

    def gaps(self, table: Table, role: str) -> tuple[Gap, ...]:
        """Everything that is not provably bound, over all commands, were the role granted them."""
        policies = self._policies(table, role)
        key = self._key(table, role, policies)
        if key in self._bound:
            return ()
        found: list[Gap] = []
        for command in COMMANDS:
            applied = [p for p in policies if p.command in ("ALL", command)]
            for clause in _clauses(command):
                found += self._clause_gaps(table, role, command, clause, applied)
        if not found and table.name not in self._tied:
            self._bound.add(key)
        return tuple(found)

    def _policies(self, table: Table, role: str) -> list[Policy]:
        named = self.world.graph.acts_as(role)
        return [p for p in table.policies if not named.isdisjoint(p.roles)]

    def _key(self, table: Table, role: str, policies: list[Policy]) -> object:
        """Everything that the proofs of all commands depend on, where none is tied to its table."""
        said = tuple((p.command, p.permissive, *self._both(table, p)) for p in policies)
        texts = tuple(text for _, _, using, check in said for text in (using, check))
        return (said, role, self._goal(table, "SELECT", "USING"), self.world.shape(table, texts))

    def _both(self, table: Table, policy: Policy) -> tuple[str, str]:
        return self.world.canonical(table, policy.using), self.world.canonical(table, policy.check)

    def _clause_gaps(
        self, table: Table, role: str, command: str, clause: str, applied: list[Policy]
    ) -> tuple[Gap, ...]:
        restrictive = tuple(t for p in applied if not p.permissive if (t := self._text(table, p, clause)))
        permissive = [(p, t) for p in applied if p.permissive if (t := self._text(table, p, clause))]
        found: list[Gap] = []
        for policy, text in permissive:
            for reason, blocked in self._open(table, role, command, clause, (text, *restrictive)):
                shown = blocked.replace(f"{THIS}.", f"{table.name.rpartition('.')[2]}.")
                found.append(Gap(policy.name, command, clause, reason, shown))
        return tuple(found)

    def _text(self, table: Table, policy: Policy, clause: str) -> str:
        """USING, or WITH CHECK, which defaults to USING. A policy without either takes no part."""
        text = policy.using if clause == "USING" else policy.check or policy.using
        return self.world.canonical(table, text)

    def _open(self, table: Table, role: str, command: str, clause: str, texts: tuple[str, ...]) -> _Open:
        """(reason, expression) where the AND of the texts does not bind the row."""
        key = (texts, role, self._goal(table, command, clause), self.world.shape(table, texts))
        if key in self._cache:
            return self._cache[key]
        proof = _Proof(self, table, role, command, clause)
        found = tuple(dict.fromkeys(proof.refuted(texts)))
        if not proof.tied_to_table:
            self._cache[key] = found
        else:
            self._tied.add(table.name)
        return found

    def is_callers_tenant(self, table: Table, column: str, text: str, role: str) -> bool:
        """Whether an expression can be nothing but the tenant of whoever inserts a row as that role."""
        name = '"' + column.replace('"', '""') + '"'
        check = self.world.canonical(table, f"({name} = ({text}))")
        return not self._open(table, role, "INSERT", "WITH CHECK", (check,))

    def _goal(self, table: Table, command: str, clause: str) -> tuple[object, ...]:
        return (self.owned(table, clause), self.shown(table, command), self.world.derived.get(table.name))

    def shown(self, table: Table, command: str) -> bool:
        """Whether a row may be shown to all members of a tenant: users, who may be members of others as well."""
        return command == "SELECT" and self.world.is_user(table) and not self.world.tenant_columns(table)

    def owned(self, table: Table, clause: str) -> bool:
        """Whether it is enough that a row is the caller's own: its membership, as it stands, or its user.

        Not for a membership that is written: whoever could name himself a member would join any tenant.
        """
        user = self.world.is_user(table) and not self.world.tenant_columns(table)
        return self.world.is_own_kind(table) and (clause == "USING" or (user and not self.world.is_membership(table)))

    def facts(self, ev: Evaluator, conj: Conj) -> Facts:
        return Facts(self.world, conj, ev.rows, tenants=self.trust.tenants, users=self.trust.users)

    def calls(self, table: Table, role: str) -> tuple[Function, ...]:
        """The functions of this database that the policies of a role name themselves."""
        signatures = {s for text in self._texts(table, role) for s in self._called(text)}
        return tuple(self.world.functions[s] for s in sorted(signatures))

    def _texts(self, table: Table, role: str) -> set[str]:
        return {text for p in self._policies(table, role) for text in self._both(table, p) if text}

    def _called(self, text: str) -> tuple[str, ...]:
        if text not in self._calls:
            try:
                named = calls(expression(text))
            except NotUnderstood:
                named = ()
            found = (f for name, count in named for f in self.world.candidates(name, count, ()))
            self._calls[text] = tuple(f.signature for f in found)
        return self._calls[text]

    def reads(self, table: Table, role: str) -> frozenset[str]:
        """The tables that the policies of a role look up with its own rights."""
        texts = self._texts(table, role)
        if not any("FROM" in text or self._called(text) for text in texts):
            return frozenset()
        key = frozenset(texts)
        if key not in self._reads:
            ev = self.evaluator(table, role)
            for text in texts:
                try:
                    ev.truth(expression(text), ev.row_scope(table), sign=True)
                except NotUnderstood:
                    ev.as_invoker |= self._named(text)
            self._reads[key] = frozenset(ev.as_invoker)
        return self._reads[key]

    def _named(self, text: str) -> set[str]:
        """The tables in the FROM clauses of an expression that is not understood."""
        try:
            found = relations(expression(text))
        except NotUnderstood:
            return set()
        tables = (self.world.table(parts, self.world.default_path) for parts in found)
        return {table.name for table in tables if table}

    def computing(self, text: str) -> tuple[Function, ...]:
        """The functions of this database that an expression of the settings names."""
        return tuple(self.world.functions[s] for s in self._called(text))

    @staticmethod
    def only_takes_apart(function: Function) -> bool:
        """Whether a function gives parts of its argument: immutable, and no value but separators of its own."""
        literals = {literal.strip("'") for literal in re.findall(r"'[^']*'", function.body)}
        named = [name for name in (*function.argument_names, "$1") if name]
        splits = re.search(
            r"\b(string_to_array|split_part|regexp_split_to_array)\s*\(\s*(\w+\.)?(\$1|\w+)", function.body
        )
        return (
            function.volatility == "immutable"
            and function.language in ("sql", "plpgsql")
            and literals <= {"/", ":", "."}
            and splits is not None
            and splits[3] in named
        )

    def unqualified(self, function: Function) -> tuple[str, ...]:
        """Relations that a function reads without naming their schema."""
        try:
            trees = statements(function)
        except NotUnderstood:
            return ()
        return tuple(sorted({name[0] for tree in trees for name in relations(tree) if len(name) == 1}))

    def is_caller_bound(self, function: Function) -> bool:
        """Whether a function that reads past row security returns nothing but what is about the caller."""
        return not self.leaks(function)

    def leaks(self, function: Function) -> str:
        """Why a SECURITY DEFINER function may tell its caller of others; "" where it provably does not."""
        return leak(self.world, self.trust, function)


class _Proof:
    """One attempt for one table, role and clause."""

    def __init__(self, prover: Prover, table: Table, role: str, command: str, clause: str) -> None:
        self.prover = prover
        self.world = prover.world
        self.table = table
        self.own = prover.owned(table, clause)
        self.user = prover.shown(table, command)
        self.ev = prover.evaluator(table, role)
        self.scope = self.ev.row_scope(table)
        self.tied_to_table = False

    def refuted(self, texts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Each way in which the AND of the texts may hold for a row of somebody else's."""
        try:
            parts = [self.ev.truth(expression(text), self.scope, sign=True) for text in texts]
            # One text that binds the row by itself is enough, whatever the others say.
            if any(all(map(self._is_bound, part)) for part in parts):
                return
            whole = both(parts)
        except NotUnderstood as error:
            yield str(error), texts[0]
            return
        yield from (self._blocking(conj) for conj in whole if not self._is_bound(conj))

    def _is_bound(self, conj: Conj) -> bool:
        facts = self.prover.facts(self.ev, conj)
        derived = self.world.derived.get(self.table.name)
        if derived is not None:
            return self._is_derived(derived, facts)
        bound = (self.own and facts.is_own(0)) or facts.is_bound(0) or (self.user and facts.is_colleague(0))
        self.tied_to_table |= facts.extended
        return bound

    def _is_derived(self, derived: DerivedTable, facts: Facts) -> bool:
        """The declared expression is the caller's tenant (after its prefix), and the constants are pinned."""
        pinned = all(
            any(isinstance(other, Const) for other in facts.closure.members(Col(0, name)))
            for name in derived.constant_columns
        )
        alts = self.ev.values(expression(derived.tenant), self.scope)
        if len(alts) != 1 or not pinned:
            return False
        return any(_after_prefix(other, derived.prefix, facts) for other in facts.closure.members(alts[0].term))

    def _blocking(self, conj: Conj) -> tuple[str, str]:
        """Why a conjunction does not bind the row: the first thing not understood, else all that it says."""
        for atom in conj:
            if isinstance(atom, Unknown):
                return atom.reason, _shown(atom.source)
        said = list(dict.fromkeys(_shown(a.source) for a in conj if isinstance(a, Equal | NotNull)))
        if not said:
            return "nothing ties the row to the caller", ""
        derived = self.world.derived.get(self.table.name)
        wanted = derived.tenant if derived else "/".join(self.world.tenant_columns(self.table)) or "the row"
        return f"does not imply that {wanted} is the caller's tenant", " AND ".join(filter(None, said))


def _clauses(command: str) -> tuple[str, ...]:
    return {"INSERT": ("WITH CHECK",), "UPDATE": ("USING", "WITH CHECK")}.get(command, ("USING",))


def _shown(source: object) -> str:
    return render(source) if source is not None else ""


def _after_prefix(term: Term, prefix: str, facts: Facts) -> bool:
    if not prefix:
        return facts.is_tenant(term)
    match term:
        case Apply("||", (first, rest)):
            return first == Const(prefix) and facts.is_tenant(rest)
    return False
