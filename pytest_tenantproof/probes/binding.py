"""How a session is tied to a tenant: which claims and settings the accessors read, found by asking them.

Claims that no accessor reads bind nobody, and then every attack is refused and proves nothing.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.probes.rows import Tenant
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.probes.values import literal
from pytest_tenantproof.probes.wanted import Claim, wanted

__all__ = ["Binding", "bind"]

_PATH = re.compile(r"((?:->\s*'[^']+'(?:::text)?\s*\)*\s*)*)->>\s*'([^']+)'")
_SETTING = re.compile(r"current_setting\(\s*'(\w+\.[\w.]+)'")
_CLAIMS = "request.jwt.claims"
_EDITABLE = ("user_metadata", "raw_user_meta_data")

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """Claim paths and settings that carry the tenant and the user. `unproven`: expressions that none satisfied,
    e.g. an accessor that takes a sealed binding; `proven`: whether any other one was.

    `tokens` are settings beside request.jwt.claims that hold all claims as JSON, e.g. hasura.user.
    `wanted` are claims that policies ask of everybody beside the tenant, attackers included.
    `foreign` are settings that the product reads though no gateway sets them: anybody may.
    """

    tenant_paths: tuple[Path, ...] = ()
    tenant_settings: tuple[str, ...] = ()
    user_paths: tuple[Path, ...] = (("sub",),)
    user_settings: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    proven: bool = False
    wanted: tuple[Claim, ...] = ()

    def claims(self, role: str, tenant: Any, user: Any, **more: Any) -> dict[str, Any]:
        """A token of that tenant and user; `more` replaces claims at its top."""
        token: dict[str, Any] = {"role": role, "aud": role, "app_metadata": {}, "user_metadata": {}}
        for path, value in self.wanted:
            _add(token, path, value)
        for path in self.user_paths:
            _put(token, path, user)
        for path in self.tenant_paths:
            _put(token, path, tenant)
        return token | more

    def settings(self, claims: Any, tenant: str = "", user: str = "") -> dict[str, str]:
        """The settings that carry a token, and the tenant and user where settings of their own do."""
        own = dict.fromkeys(self.tenant_settings, tenant) | dict.fromkeys(self.user_settings, user)
        return dict.fromkeys((_CLAIMS, *self.tokens), json.dumps(claims)) | own

    @property
    def names(self) -> tuple[str, ...]:
        """The last names of the paths that carry the tenant."""
        return tuple(dict.fromkeys(path[-1] for path in self.tenant_paths))


def _put(token: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        token = token.setdefault(name, {})
    token[path[-1]] = value


def _add(token: dict[str, Any], path: Path, value: Any) -> None:
    """Puts a claim where there is none yet."""
    for name in path[:-1]:
        token = token.setdefault(name, {})
        if not isinstance(token, dict):
            return
    token.setdefault(path[-1], value)


def bind(connection: psycopg.Connection[Any], catalog: Catalog, tenant: Tenant) -> Binding:
    """Tries claims and settings until each trusted expression gives the tenant or the user."""
    paths, settings = _mentioned(catalog)
    own = tuple(s for s in settings if not s.startswith("request."))
    found = Binding(foreign=own, wanted=wanted(catalog))
    asked = [(e, "user") for e in catalog.settings.trusted_user_expressions]
    asked += [(e, "tenant") for e in catalog.settings.trusted_tenant_expressions]
    unproven: list[str] = []
    for expression, what in asked:
        options = _options(found, what, paths, own)
        best = next((o for o in options if _gives(connection, expression, o, tenant, what)), None)
        found, unproven = (best or found), [*unproven, *([] if best else [expression])]
    proven = len(unproven) < len(asked)
    return replace(found, unproven=tuple(unproven), proven=proven, foreign=_untaken(found, own))


def _untaken(found: Binding, own: tuple[str, ...]) -> tuple[str, ...]:
    taken = {*found.tenant_settings, *found.user_settings, *found.tokens}
    return tuple(s for s in own if s not in taken)


def _mentioned(catalog: Catalog) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Claim paths, the user's own to edit last, and settings: of policies and of the functions behind them."""
    texts = [text for t in catalog.isolated_tables for p in t.policies for text in (p.using, p.check)]
    texts += [f.body for f in catalog.own_functions]
    texts += [*catalog.settings.trusted_tenant_expressions, *catalog.settings.trusted_user_expressions]
    found = [(*re.findall(r"'([^']+)'", before), last) for t in texts for before, last in _PATH.findall(t)]
    guesses = [
        (*head, name) for name in (*catalog.settings.tenant_column, "tenant_id") for head in ((), ("app_metadata",))
    ]
    paths = sorted(dict.fromkeys((*found, *guesses)), key=lambda path: bool(set(path) & set(_EDITABLE)))
    return tuple(paths), tuple(dict.fromkeys(s for text in texts for s in _SETTING.findall(text)))


def _options(found: Binding, what: str, paths: tuple[Path, ...], settings: tuple[str, ...]) -> Iterator[Binding]:
    """What was found before, then one path more, then one setting more, then a path in a setting that is JSON."""
    yield found
    if what == "tenant":
        yield from (replace(found, tenant_paths=(*found.tenant_paths, p)) for p in paths)
        yield from (replace(found, tenant_settings=(*found.tenant_settings, s)) for s in settings)
    else:
        yield from (replace(found, user_paths=(*found.user_paths, p)) for p in paths)
        yield from (replace(found, user_settings=(*found.user_settings, s)) for s in settings)
    for more in (replace(found, tokens=(*found.tokens, s)) for s in settings if s not in found.tokens):
        if what == "tenant":
            yield from (replace(more, tenant_paths=(*found.tenant_paths, p)) for p in paths)
        else:
            yield from (replace(more, user_paths=(*found.user_paths, p)) for p in paths)


def _gives(connection: psycopg.Connection[Any], expression: str, binding: Binding, tenant: Tenant, what: str) -> bool:
    given = binding.settings(binding.claims("authenticated", tenant.id, tenant.user), tenant.id, tenant.user)
    configured = ", ".join(f"set_config({literal(k)}, {literal(v)}, true)" for k, v in given.items())
    with savepoint(connection):
        try:
            connection.execute(f"SELECT {configured}".encode())
            row = connection.execute(f"SELECT ({expression})::text".encode()).fetchone()
        except psycopg.Error:
            return False
    return row is not None and row[0] == (tenant.id if what == "tenant" else tenant.user)
