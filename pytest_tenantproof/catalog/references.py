"""Whether the trigger of a declared reference really enforces it."""

import re
from collections.abc import Iterator, Mapping, Sequence

from pytest_tenantproof.catalog.guards import Aim, lets_through, rewrites
from pytest_tenantproof.catalog.model import Function, Table, Trigger
from pytest_tenantproof.catalog.plpgsql import body_of, query, without_comments
from pytest_tenantproof.config import Reference
from pytest_tenantproof.model import Finding

__all__ = ["enforcers", "reference_problems"]


def reference_problems(
    table: Table,
    reference: Reference,
    aims: Sequence[Aim],
    catalog: Mapping[str, Table],
    functions: dict[str, Function],
) -> Iterator[Finding]:
    """What is wrong with the enforcement of one reference; nothing when a trigger provably enforces it."""
    candidates = enforcers(table, reference, functions)
    if not candidates:
        targets = ", ".join(sorted(set(reference.to.values())))
        run = sorted({t.function for t in table.triggers if t.level == "ROW" and t.timing == "BEFORE"})
        instead = f"; its triggers run {', '.join(run)}" if run else ""
        column = reference.column.rpartition(".")[2]
        detail = f"no trigger checks that {column} names a row of the same tenant in {targets}{instead}"
        yield Finding(table.name, detail)
        return
    weaknesses = [tuple(_weaknesses(t, functions, table, aims, catalog)) for t in candidates]
    if all(weaknesses):
        for trigger, found in zip(candidates, weaknesses, strict=True):
            for weakness in found:
                yield Finding(table.name, f"trigger {trigger.name}: {weakness}")
    yield from _discriminator(table, reference)


def enforcers(table: Table, reference: Reference, functions: Mapping[str, Function]) -> list[Trigger]:
    """The triggers of a table whose functions look a target of the reference up."""
    return [t for t in table.triggers if _looks_up(functions.get(t.function), reference)]


def _looks_up(function: Function | None, reference: Reference) -> bool:
    if function is None:
        return False
    text = without_comments(function.body).lower().replace('"', "")
    return any(re.search(rf"\b{re.escape(_bare(t))}\b", text) for t in reference.to.values())


def _bare(table: str) -> str:
    return table.rpartition(".")[2].strip('"').lower()


def _weaknesses(
    trigger: Trigger,
    functions: Mapping[str, Function],
    table: Table,
    aims: Sequence[Aim],
    catalog: Mapping[str, Table],
) -> Iterator[str]:
    function = functions[trigger.function]
    involved = {name for aim in aims for name in (aim.column.name, aim.tenant.name, aim.discriminator) if name}
    if trigger.enabled not in ("origin", "always"):
        yield f"is {trigger.enabled}"
    if trigger.level != "ROW" or not {"INSERT", "UPDATE"} <= set(trigger.events):
        yield "does not fire for each row on INSERT and UPDATE"
    if trigger.columns and not involved <= set(trigger.columns):
        yield "fires on UPDATE OF some of the columns involved only"
    body = body_of(function)
    if body is None:
        yield f"{function.signature} is not understood"
        return
    for aim in aims:
        if passed := lets_through(trigger, function, table, aim, catalog):
            when = f" where {aim.discriminator} is {aim.kind!r}" if aim.discriminator else ""
            yield f"{function.signature} does not provably refuse {passed} of {aim.target.name}{when}"
    for later in table.triggers if trigger.timing == "BEFORE" else ():
        changes = functions.get(later.function) if later.timing == "BEFORE" and later.level == "ROW" else None
        if changes and later.name > trigger.name and later.enabled != "disabled":
            for name in sorted({n for aim in aims for n in (aim.column.name, aim.discriminator) if n}):
                kept = (f"new.{name}", f"old.{name}")
                if any(value.lower() not in kept for value in rewrites(changes, name)):
                    yield f"{later.name} changes {name} after it"
    for kind, node in body.walk():
        if kind == "PLpgSQL_stmt_raise":
            options = (option["PLpgSQL_raise_option"]["expr"] for option in node.get("options", ()))
            if leaked := [p for p in (*node.get("params", ()), *options) if not _harmless(query({"cond": p}))]:
                yield f"{function.signature} puts {len(leaked)} looked-up value(s) into its error text"


def _harmless(expression: str) -> bool:
    """Values the caller sent, or names of the trigger's own table."""
    return bool(re.fullmatch(r"\s*((new|old)\.\w+|tg_\w+|'[^']*')\s*", expression, re.I))


def _discriminator(table: Table, reference: Reference) -> Iterator[Finding]:
    if not reference.discriminator:
        return
    checks = [c for c in table.constraints if c.kind == "check" and c.columns == (reference.discriminator,)]
    allowed = {value for check in checks for value in re.findall(r"'((?:[^']|'')*)'", check.definition)}
    if not allowed:
        yield Finding(table.name, f"{reference.discriminator} is not limited to the declared kinds by a check")
    for value in sorted(allowed - set(reference.to)):
        detail = f"{reference.discriminator} may be {value!r}, which no declared reference covers"
        yield Finding(table.name, detail)
