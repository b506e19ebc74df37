"""What the settings call the caller's tenant and user, followed down to where the value comes from."""

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_tenantproof.policy.closure import Facts
from pytest_tenantproof.policy.evaluate import Evaluator
from pytest_tenantproof.policy.parse import expression
from pytest_tenantproof.policy.scope import Scope
from pytest_tenantproof.policy.terms import Alt, Apply, Claim, Col, Const, NotUnderstood, Opaque, Term
from pytest_tenantproof.policy.world import World

__all__ = ["Trust", "Weakness", "plain"]


@dataclass(frozen=True, slots=True)
class Weakness:
    """Why an expression of the settings does not give the caller's own tenant or user."""

    expression: str
    reason: str
    function: str = ""
    """The innermost function that the value comes from, if any."""


def plain(term: Term) -> Term:
    """A member of a claim's list, without the number that keeps two members apart."""
    if isinstance(term, Apply) and term.name == "elements":
        return Apply("elements", term.args[:1])
    return term


class Trust:
    """The terms that stand for the caller's tenant and user, and what is wrong with the expressions behind them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.weaknesses: list[Weakness] = []
        self.relied_on: set[str] = set()
        self.nominal: set[str] = set()
        settings = world.settings
        self.users = self._terms(settings.trusted_user_expressions, frozenset())
        self.tenants = self._terms(settings.trusted_tenant_expressions, self.users)

    @property
    def claims(self) -> frozenset[str]:
        """The last names of the claims that give the tenant or the user."""
        found = (claim for term in (*self.users, *self.tenants) for claim in _claims(term))
        return frozenset(claim.path[-1] if claim.path else claim.root.rpartition(".")[2] for claim in found)

    def _terms(self, texts: tuple[str, ...], users: frozenset[Term]) -> frozenset[Term]:
        found: set[Term] = set()
        for text in texts:
            found |= self._followed(text, users)
        return frozenset(found)

    def _followed(self, text: str, users: frozenset[Term]) -> set[Term]:
        ev = Evaluator(self.world)
        try:
            node = expression(text)
            if self._is_absent(ev, node):
                return set()
            alts = ev.values(node, Scope(path=self.world.default_path))
        except NotUnderstood as error:
            self.weaknesses.append(self._found(text, str(error), ev))
            return set()
        self.relied_on |= ev.relied_on
        terms: set[Term] = set()
        for alt in alts:
            reason = self._weakness(ev, alt, users)
            if reason:
                self.weaknesses.append(self._found(text, reason, ev))
            elif not isinstance(alt.term, Col):
                terms.add(plain(alt.term))
        if any(w.expression == text for w in self.weaknesses):
            # The accessor is reported by itself; policies that use it are not reported once more each.
            return self._taken_as_given(ev, node)
        return terms

    def _found(self, text: str, reason: str, ev: Evaluator) -> Weakness:
        named = [s for s in self.world.functions if s in reason]
        if not named and ev.relied_on:
            followed = sorted(ev.relied_on)
            return Weakness(text, f"{reason} (through {', '.join(followed)})", followed[0])
        return Weakness(text, reason, max(named, key=reason.rindex, default=""))

    @staticmethod
    def _is_absent(ev: Evaluator, node: object) -> bool:
        """A function that this database does not have: nothing can rely on it."""
        name = getattr(node, "funcname", None)
        path = ev.world.default_path
        return name is not None and not ev.targets(node, Scope(path=path)) and len(name) > 1

    def _taken_as_given(self, ev: Evaluator, node: object) -> set[Term]:
        name = getattr(node, "funcname", None)
        if name is None or getattr(node, "args", None):
            return set()
        signatures = {f.signature for f in ev.targets(node, Scope(path=self.world.default_path))}
        self.nominal |= signatures
        return {Apply(signature) for signature in signatures}

    def _weakness(self, ev: Evaluator, alt: Alt, users: frozenset[Term]) -> str:
        match alt.term:
            case Opaque(reason=reason):
                return reason
            case Const(value=value):
                return f"may be the constant {value!r}, whoever asks"
            case Col():
                facts = Facts(self.world, alt.given, ev.rows, tenants=frozenset(), users=users)
                if not facts.is_membership(alt.term):
                    return (
                        f"reads {ev.rows[alt.term.alias].name}.{alt.term.name}, which no membership ties to the caller"
                    )
            case Claim() | Apply() if not _has_claim(alt.term):
                return "does not come from a claim"
        return ""


def _has_claim(term: Term) -> bool:
    return any(_claims(term))


def _claims(term: Term) -> Iterator[Claim]:
    if isinstance(term, Claim):
        yield term
    for arg in term.args if isinstance(term, Apply) else ():
        yield from _claims(arg)
