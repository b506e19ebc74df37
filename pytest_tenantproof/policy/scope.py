"""Which name means what at one place of an expression."""

from dataclasses import dataclass, field, replace
from typing import Any

from pytest_tenantproof.policy.terms import TRUE, Alt, Dnf, NotUnderstood

__all__ = ["Alts", "Scope"]

Alts = tuple[Alt, ...]


@dataclass(slots=True)
class Scope:
    """FROM items by alias, then parameters and variables, then the query around.

    `invoker`: whether tables are read with the caller's rights. `path`: the schemas that unqualified names
    are looked up in; empty for policy expressions, where Postgres qualified every name. `found`: what holds
    where PL/pgSQL's FOUND is true. `present`: variables that are not NULL. `aliases`: other names of a source.
    `function`: the function whose body this is, for messages.
    """

    sources: dict[str, dict[str, Alts]] = field(default_factory=dict)
    parameters: dict[str, Alts] = field(default_factory=dict)
    positional: tuple[Alts, ...] = ()
    ctes: dict[str, Any] = field(default_factory=dict)
    parent: "Scope | None" = None
    invoker: bool = True
    path: tuple[str, ...] = ()
    depth: int = 0
    function: str = ""
    found: Dnf = TRUE
    present: frozenset[str] = frozenset()
    merged: frozenset[str] = frozenset()
    aliases: dict[str, str] = field(default_factory=dict)

    def inner(self) -> "Scope":
        """A subquery's scope, inside this one."""
        return replace(
            self, sources={}, parameters={}, ctes=dict(self.ctes), parent=self, merged=frozenset(), aliases={}
        )

    def bind(self, name: str, alts: Alts, *, present: bool = False) -> "Scope":
        """The same scope after a variable was set, to what is never NULL where it is `present`."""
        known = self.present | {name} if present else self.present - {name}
        return replace(self, parameters={**self.parameters, name: alts}, present=known)

    def lookup(self, parts: tuple[str, ...]) -> Alts:
        """Raises NotUnderstood for a name that is unknown, ambiguous or a whole row."""
        scope: Scope | None = self
        while scope is not None:
            if (found := scope._here(parts)) is not None:
                return found
            scope = scope.parent
        raise NotUnderstood(f"{'.'.join(parts)} is not a known column")

    def _here(self, parts: tuple[str, ...]) -> Alts | None:
        if len(parts) > 1:
            source = self.sources.get(self.aliases.get(parts[-2], parts[-2]))
            if source is not None:
                if parts[-1] not in source:
                    raise NotUnderstood(f"{'.'.join(parts)} is not a known column")
                return source[parts[-1]]
            own = self.function.partition("(")[0].rpartition(".")[2]
            return self.parameters.get(parts[-1]) if parts[-2] == own else None
        name = parts[0]
        holders = [source for source in self.sources.values() if name in source]
        if len(holders) > 1 and name not in self.merged:
            raise NotUnderstood(f"{name} is ambiguous")
        if holders:
            return holders[0][name]
        if name in self.sources:
            raise NotUnderstood(f"{name} is a whole row")
        return self.parameters.get(name)
