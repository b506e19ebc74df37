"""Random policies: expressions of every form that the prover reads, safe and unsafe alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

__all__ = ["Case", "cases"]

A, B = "'00000000-0000-0000-0000-00000000000a'::uuid", "'00000000-0000-0000-0000-00000000000b'::uuid"
_ROW = ("probe.tenant_id", "probe.tenant_id", "probe.shared", "probe.owner", "probe.project_id", "probe.id")
_CALLER = (
    "app.tenant()",
    "app.tenant()",
    "(SELECT app.tenant())",
    "auth.uid()",
    "app.require_tenant()",
    "(auth.jwt() -> 'app_metadata' ->> 'tenant_id')::uuid",
    "nullif(auth.jwt() -> 'app_metadata' ->> 'tenant_id', '')::uuid",
    "(auth.jwt() -> 'user_metadata' ->> 'tenant_id')::uuid",
    "nullif(current_setting('app.tenant', true), '')::uuid",
    "(SELECT m.tenant_id FROM public.members m WHERE m.user_id = auth.uid() LIMIT 1)",
)
_LOOKUPS = ("(SELECT p.tenant_id FROM projects p WHERE p.id = probe.project_id)", "app.tenant_of(probe.project_id)")
_SOURCES = {"m": "public.members m", "p": "public.projects p"}
_COLUMNS = {"m": ("m.tenant_id", "m.user_id"), "p": ("p.id", "p.tenant_id", "p.owner_id")}
_HELPERS = (
    "is_member",
    "is_member_plpgsql",
    "is_member_found",
    "any_member",
    "captured",
    "or_true",
    "unless_null",
    "strictly",
)
_ATOMS = (
    "{0} = {1}",
    "{0} = {1}",
    "{0} = {1}",
    "{0} = {1}",
    "{0} <> {1}",
    "{0} >= {1}",
    "{0} IS NOT DISTINCT FROM {1}",
    "{0} IS DISTINCT FROM {1}",
    "({0})::text = coalesce(({1})::text, '')",
    "({0})::text LIKE left(({1})::text, 34) || '%'",
    "({0}) IS NULL",
    "({0}) IS NOT NULL",
    "{0} IN ({1}, {2})",
    "{0} NOT IN ({1}, {2})",
    "{0} = ANY (ARRAY[{1}, {2}])",
    "{0} <> ALL (ARRAY[{1}, {2}])",
    "({0}, {1}) = ({2}, {3})",
    "app.{helper}({0})",
    "app.{helper}({0})",
    "true",
    "false",
    "NULL::boolean",
    "auth.role() = 'authenticated'",
    "1 = 1",
)
_OWN = ("probe.flag", "probe.label = 'x'", "probe.label IS NULL", "app.drawn({0}, {1})", "app.drawn({0}, {1})")
_BODIES = (
    "BEGIN RETURN {0};{h} END",
    "BEGIN IF {0} THEN RETURN {1}; END IF; RETURN {2};{h} END",
    "BEGIN IF {0} THEN RETURN true; ELSIF {1} THEN RETURN {2}; END IF; RETURN false;{h} END",
    "BEGIN IF NOT ({0}) THEN RAISE EXCEPTION 'no'; END IF; RETURN true;{h} END",
    "BEGIN IF {0} THEN RAISE EXCEPTION 'no'; END IF; RETURN {1};{h} END",
    "DECLARE ok boolean := {0}; BEGIN IF ok THEN RETURN {1}; END IF; RETURN ok;{h} END",
    "DECLARE t uuid; BEGIN SELECT m.tenant_id INTO t FROM public.members m WHERE m.user_id = auth.uid() AND ({0});"
    " RETURN t = a OR {1};{h} END",
    "BEGIN PERFORM 1 FROM public.members m WHERE m.user_id = auth.uid() AND m.tenant_id = a AND ({0});"
    " IF NOT FOUND THEN RETURN {1}; END IF; RETURN true;{h} END",
)
_HANDLERS = ("", "", " EXCEPTION WHEN OTHERS THEN RETURN false;", " EXCEPTION WHEN OTHERS THEN RETURN true;")


@dataclass(frozen=True)
class Case:
    """Policies as (permissive, command, role, USING, WITH CHECK), and the body of app.drawn(a uuid, b uuid)."""

    policies: tuple[tuple[bool, str, str, str, str], ...]
    body: str


class _Writer:
    """Writes expressions. `row`: what stands for the guarded row's columns."""

    def __init__(self, draw: Callable[[Any], Any], row: tuple[str, ...] = _ROW) -> None:
        self.draw = draw
        self.row = row
        self.in_policy = row is _ROW

    def pick(self, *options: str) -> str:
        return str(self.draw(st.sampled_from(options)))

    def term(self, inside: tuple[str, ...]) -> str:
        names = tuple(c for alias in inside for c in _COLUMNS[alias])
        lookups = _LOOKUPS if self.in_policy else ()
        value = self.pick(*self.row, *_CALLER, *lookups, *names, *names, A, B, "NULL::uuid")
        match self.pick("plain", "plain", "plain", "coalesce", "nullif", "case", "text"):
            case "coalesce":
                return f"coalesce({value}, {self.pick(*self.row, *_CALLER, A)})"
            case "nullif":
                return f"nullif({value}, {self.pick(*self.row, *_CALLER, A)})"
            case "case" if self.in_policy:
                return f"CASE WHEN probe.flag THEN {value} ELSE {self.pick(*self.row, *_CALLER, A)} END"
            case "text":
                return f"({value})::text::uuid"
        return value

    def atom(self, inside: tuple[str, ...] = ()) -> str:
        if self.draw(st.booleans()):
            return self.tie(inside)
        own = _OWN if self.in_policy else ("true", "false")
        pattern = self.pick(*_ATOMS, *own)
        terms = [self.term(inside) for name in ("{0}", "{1}", "{2}", "{3}") if name in pattern]
        helper = self.pick(*_HELPERS) if "{helper}" in pattern else ""
        return pattern.format(*terms, helper=helper)

    def tie(self, inside: tuple[str, ...]) -> str:
        """Something of a row beside something of the caller: what real policies are made of, and real mistakes."""
        names = tuple(c for alias in inside for c in _COLUMNS[alias])
        pattern = self.pick("{0} = {1}", "{1} = {0}", "{0} IN ({1})", "NOT ({0} <> {1})", "{0}::text = ({1})::text")
        return pattern.format(self.pick(*self.row, *names), self.pick(*_CALLER[:6], *names))

    def where(self, inside: tuple[str, ...]) -> str:
        count = self.draw(st.integers(1, 3))
        return " AND ".join(self.atom(inside) for _ in range(count))

    def subquery(self) -> str:
        """A condition on memberships or projects, correlated or not."""
        alias = self.pick("m", "m", "p")
        source, where = _SOURCES[alias], self.where((alias,))
        column, outer = self.pick(*_COLUMNS[alias]), self.term(())
        match self.pick(
            "exists", "exists", "not exists", "count", "in", "in", "any", "not in", "join", "left", "union"
        ):
            case "exists":
                return f"EXISTS (SELECT 1 FROM {source} WHERE {where})"
            case "not exists":
                return f"NOT EXISTS (SELECT 1 FROM {source} WHERE {where})"
            case "count":
                return f"(SELECT count(*) FROM {source} WHERE {where}) > 0"
            case "any":
                return f"{outer} = ANY (ARRAY(SELECT {column} FROM {source} WHERE {where}))"
            case "not in":
                return f"{outer} NOT IN (SELECT {column} FROM {source} WHERE {where})"
            case "union":
                return f"{outer} IN (SELECT {column} FROM {source} WHERE {where} UNION SELECT {self.term(())})"
            case "join" | "left" as kind:
                other = "p" if alias == "m" else "m"
                word = "JOIN" if kind == "join" else "LEFT JOIN"
                on, both = self.where((alias, other)), self.where((alias, other))
                return f"EXISTS (SELECT 1 FROM {source} {word} {_SOURCES[other]} ON {on} WHERE {both})"
        return f"{outer} IN (SELECT {column} FROM {source} WHERE {where})"

    def anchored(self) -> str:
        row = self.row[0]
        return self.pick(f"{row} = app.tenant()", f"app.is_member({row})", f"{row} IN (SELECT app.my_tenants())")

    def condition(self, depth: int = 2) -> str:
        kind = self.pick(
            "leaf", "leaf", "leaf", "and", "and", "or", "not", "coalesce", "equal", "case", "test", "select"
        )
        if depth == 0 or kind == "leaf":
            return {"a": self.anchored, "b": self.atom, "c": self.subquery}[self.pick("a", "b", "b", "c")]()
        x = self.condition(depth - 1)
        match kind:
            case "and":
                return f"({x} AND {self.condition(depth - 1)})"
            case "or":
                return f"({x} OR {self.condition(depth - 1)})"
            case "not":
                return f"(NOT ({x}))"
            case "coalesce":
                return f"coalesce({x}, {self.condition(depth - 1)})"
            case "equal":
                return f"(({x}) = ({self.condition(depth - 1)}))"
            case "case":
                return f"CASE WHEN {x} THEN {self.condition(depth - 1)} ELSE {self.condition(0)} END"
            case "test":
                return f"(({x}) IS {self.pick('TRUE', 'FALSE', 'NOT TRUE', 'NOT FALSE', 'UNKNOWN')})"
        return f"(SELECT {x})"


@st.composite
def cases(draw: Callable[[Any], Any]) -> Case:
    writer, inner = _Writer(draw), _Writer(draw, ("a", "b"))
    policies = []
    for _ in range(draw(st.integers(1, 3))):
        permissive = draw(st.sampled_from((True, True, True, False)))
        command = writer.pick("ALL", "ALL", "SELECT", "INSERT", "UPDATE", "DELETE")
        role = writer.pick("authenticated", "authenticated", "authenticated", "PUBLIC", "staff", "anon", "other_staff")
        check = writer.condition(1) if draw(st.booleans()) else ""
        policies.append((permissive, command, role, writer.condition(), check))
    conditions = [inner.condition(1) for _ in range(3)]
    return Case(tuple(policies), inner.pick(*_BODIES).format(*conditions, h=inner.pick(*_HANDLERS)))
