"""Who attacks: clients with every kind of claim that a gateway may pass on, and real logins."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.probes.rows import Tenant
from pytest_tenantproof.probes.values import literal

__all__ = ["Identity", "attackers", "owner"]

_CLEARED = ("request.jwt.claim", "request.jwt.claims", "request.jwt.claim.sub", "request.jwt.claim.role")


@dataclass(frozen=True, slots=True)
class Identity:
    """A role, the claims it comes with, and, for a real login, whose session it is.

    `lawful` names the tenant whose rows it may reach, if any; `unsure` identities may be refused by an error.
    """

    name: str
    role: str
    settings: Mapping[str, str] = field(default_factory=dict)
    login: str = ""
    lawful: str = ""
    unsure: bool = False

    @property
    def become(self) -> str:
        """SQL that makes the session this identity until the savepoint is rolled back."""
        login = f"SET LOCAL SESSION AUTHORIZATION {_ident(self.login)}; " if self.login else ""
        given = {**dict.fromkeys(_CLEARED, ""), **self.settings}
        configured = ", ".join(f"set_config({literal(k)}, {literal(v)}, true)" for k, v in given.items())
        return f"{login}SET LOCAL ROLE {_ident(self.role)}; SELECT {configured}"


def _ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _claims(catalog: Catalog, role: str, tenant: Tenant, **more: Any) -> dict[str, Any]:
    """Claims as Supabase, and those who imitate it, write them: the tenant at the top and in app_metadata."""
    names = dict.fromkeys((*catalog.settings.tenant_column, "tenant_id"))
    ids: dict[str, Any] = dict.fromkeys(names, tenant.id)
    held: dict[str, Any] = {"sub": tenant.user, "role": role, "aud": role, "email": f"{tenant.name}@example.com"}
    return {**held, **ids, "app_metadata": dict(ids), "user_metadata": {}, **more}


def _settings(catalog: Catalog, claims: Mapping[str, Any], tenant: Tenant | None = None) -> dict[str, str]:
    """The settings that carry the claims: the gateway's, and the product's own trusted ones."""
    own = [s for s in catalog.settings.trusted_settings if not s.startswith("request.jwt.") and "*" not in s]
    return {"request.jwt.claims": json.dumps(claims), **dict.fromkeys(own, tenant.id if tenant else "")}


def owner(catalog: Catalog, role: str, tenant: Tenant) -> Identity:
    """The tenant's own user, who is permitted what the product permits."""
    settings = _settings(catalog, _claims(catalog, role, tenant), tenant)
    return Identity(f"{role} of {tenant.name}", role, settings, lawful=tenant.name)


def attackers(catalog: Catalog, a: Tenant, b: Tenant, *, superuser: bool) -> tuple[Identity, ...]:
    """Everybody who must not reach tenant `b`."""
    return tuple(_attackers(catalog, a, b, superuser))


def _attackers(catalog: Catalog, a: Tenant, b: Tenant, superuser: bool) -> Iterator[Identity]:
    anonymous = set(catalog.settings.anonymous_roles)
    for role in catalog.client_roles:
        if role in anonymous:
            yield Identity(f"{role} without claims", role, unsure=True)
            yield Identity(f"{role} with a key's claims", role, _settings(catalog, {"role": role}), unsure=True)
            continue
        yield from _clients(catalog, role, a, b)
        if superuser:
            for login in catalog.gateway_roles:
                if role in catalog.graph.becomes(login.name) and not catalog.is_admin(login.name):
                    settings = _settings(catalog, _claims(catalog, role, a), a)
                    yield Identity(f"{role} of {a.name} by login {login.name}", role, settings, login.name, a.name)
    for role in catalog.settings.scoped_roles:
        if role in catalog.graph.roles:
            yield Identity(f"{role} with no tenant bound", role, unsure=True)
            forged = _settings(catalog, _claims(catalog, role, b), b)
            yield Identity(f"{role} with claims it set itself", role, forged, unsure=True)


def _clients(catalog: Catalog, role: str, a: Tenant, b: Tenant) -> Iterator[Identity]:
    names = dict.fromkeys((*catalog.settings.tenant_column, "tenant_id"))
    yield owner(catalog, role, a)
    yield Identity(f"{role} without claims", role, unsure=True)
    yield Identity(f"{role} with empty claims", role, _settings(catalog, {}), unsure=True)
    nobody = {"sub": None, "role": role, **dict.fromkeys(names), "app_metadata": dict.fromkeys(names)}
    yield Identity(f"{role} with NULL claims", role, _settings(catalog, nobody), unsure=True)
    for wrong in ("' OR true --", 0, True, {"id": b.id}, [b.id], ""):
        broken = {
            "sub": wrong,
            "role": role,
            **dict.fromkeys(names, wrong),
            "app_metadata": dict.fromkeys(names, wrong),
        }
        yield Identity(
            f"{role} with claims of type {type(wrong).__name__}", role, _settings(catalog, broken), unsure=True
        )
    forged = _claims(
        catalog, role, a, user_metadata={**dict.fromkeys(names, b.id), "sub": b.user, "role": "service_role"}
    )
    yield Identity(f"{role} of {a.name} with forged user_metadata", role, _settings(catalog, forged, a), lawful=a.name)
    legacy = _settings(catalog, _claims(catalog, role, a), a)
    legacy |= {f"request.jwt.claim.{name}": b.id for name in names}
    yield Identity(f"{role} of {a.name}, contradicted by legacy claims", role, legacy, lawful=a.name)
