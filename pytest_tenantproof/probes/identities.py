"""Who attacks: clients with every kind of claim that a gateway may pass on, and real logins."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.probes.binding import Binding
from pytest_tenantproof.probes.rows import Tenant
from pytest_tenantproof.probes.values import ident, literal

__all__ = ["Identity", "attackers", "owner"]

_CLEARED = ("request.jwt.claim", "request.jwt.claims", "request.jwt.claim.sub", "request.jwt.claim.role")
_SETTING = re.compile(r"[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """A role, the claims it comes with, and, for a real login, whose session it is.

    `lawful` names the tenant whose rows it may reach, if any, and `tenants` are the ids of all of those; `unsure`
    identities may be refused by an error.
    """

    name: str
    role: str
    settings: Mapping[str, str] = field(default_factory=dict)
    login: str = ""
    lawful: str = ""
    unsure: bool = False
    tenants: tuple[str, ...] = ()

    @property
    def become(self) -> str:
        """SQL that makes the session this identity until the savepoint is rolled back."""
        login = f"SET LOCAL SESSION AUTHORIZATION {ident(self.login)}; " if self.login else ""
        given = {**dict.fromkeys(_CLEARED, ""), **self.settings}
        configured = ", ".join(f"set_config({literal(k)}, {literal(v)}, true)" for k, v in given.items())
        return f"{login}SET LOCAL ROLE {ident(self.role)}; SELECT {configured}"


def owner(binding: Binding, role: str, tenant: Tenant, **more: Any) -> Identity:
    """The tenant's own user, who is permitted what the product permits; `more` replaces claims of the token."""
    claims = binding.claims(role, tenant.id, tenant.user, **more)
    given = binding.settings(claims, tenant.id, tenant.user)
    return Identity(f"{role} of {tenant.name}", role, given, lawful=tenant.name, tenants=(tenant.id, *tenant.others))


def attackers(
    catalog: Catalog, binding: Binding, a: Tenant, b: Tenant, *, superuser: bool, joint: tuple[Tenant, ...] = ()
) -> tuple[Identity, ...]:
    """Everybody who must not reach tenant `b`. Logins can be taken on by a superuser only.

    `joint` is one user's membership in several tenants, `b` not among them.
    """
    both = tuple(_joint(catalog, binding, joint)) if joint else ()
    return (*_attackers(catalog, binding, a, b, superuser), *both)


def _joint(catalog: Catalog, binding: Binding, joint: tuple[Tenant, ...]) -> Iterator[Identity]:
    ids = tuple(i for tenant in joint for i in (tenant.id, *tenant.others))
    names = " and ".join(tenant.name for tenant in joint)
    for role in catalog.client_roles:
        for tenant in joint if role not in catalog.settings.anonymous_roles else ():
            lawful = owner(binding, role, tenant)
            yield replace(lawful, name=f"{role}, member of {names}, in {tenant.name}", tenants=ids)


def _attackers(catalog: Catalog, binding: Binding, a: Tenant, b: Tenant, superuser: bool) -> Iterator[Identity]:
    anonymous = set(catalog.settings.anonymous_roles)
    for role in catalog.client_roles:
        if role in anonymous:
            yield Identity(f"{role} without claims", role, unsure=True)
            yield Identity(f"{role} with a key's claims", role, binding.settings({"role": role}), unsure=True)
            yield from _settable(binding, role, b)
            continue
        yield from _clients(binding, role, a, b)
        if superuser:
            for login in _logins(catalog, role):
                lawful = owner(binding, role, a)
                yield replace(lawful, name=f"{lawful.name} by login {login}", login=login)
    if superuser:
        for login in sorted({n for role in catalog.client_roles for n in _logins(catalog, role)}):
            yield Identity(f"login {login} without SET ROLE", login, login=login, unsure=True)
    for role in catalog.settings.scoped_roles:
        if role in catalog.graph.roles:
            yield Identity(f"{role} with no tenant bound", role, unsure=True)
            forged = binding.settings(binding.claims(role, b.id, b.user), b.id, b.user)
            yield Identity(f"{role} with claims it set itself", role, forged, unsure=True)


def _logins(catalog: Catalog, role: str) -> list[str]:
    found = (login.name for login in catalog.gateway_roles if role in catalog.graph.becomes(login.name))
    return [name for name in found if not catalog.is_admin(name)]


def _clients(binding: Binding, role: str, a: Tenant, b: Tenant) -> Iterator[Identity]:
    yield owner(binding, role, a)
    yield Identity(f"{role} without claims", role, unsure=True)
    for text in ("{}", "[]", "null", "{tenant"):
        given = dict.fromkeys(("request.jwt.claims", *binding.tokens), text)
        yield Identity(f"{role} with claims {text}", role, given, unsure=True)
    for wrong in (None, "' OR true --", 0, True, {"id": b.id}, [b.id], ""):
        claims = binding.settings(binding.claims(role, wrong, wrong))
        yield Identity(f"{role} with claims of type {type(wrong).__name__}", role, claims, unsure=True)
    names = dict.fromkeys((*binding.names, "tenant_id"), b.id)
    editable = {**names, "sub": b.user, "role": "service_role"}
    for name in ("user_metadata", "raw_user_meta_data"):
        yield replace(owner(binding, role, a, **{name: editable}), name=f"{role} of {a.name} with forged {name}")
    yield from _settable(binding, role, b)
    lawful = owner(binding, role, a)
    for setting in binding.foreign:
        given = {**lawful.settings, setting: b.id}
        yield replace(lawful, name=f"{lawful.name} that sets {setting}", settings=given)
    # A name such as https://example.com/tenant is none of a setting's.
    legacy = {**lawful.settings, **{f"request.jwt.claim.{name}": b.id for name in names if _SETTING.fullmatch(name)}}
    yield replace(lawful, name=f"{lawful.name}, contradicted by legacy claims", settings=legacy)


def _settable(binding: Binding, role: str, b: Tenant) -> Iterator[Identity]:
    """Settings that no gateway sets: whoever reaches SQL may set them."""
    for setting in binding.foreign:
        given = {**binding.settings({"role": role}), setting: b.id}
        yield Identity(f"{role} of no tenant that sets {setting}", role, given, unsure=True)
