"""Clients write with a false name wherever a client can put one; their events must name the user who signed in."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function, Table
from pytest_tenantproof.probes.identities import Identity, owner
from pytest_tenantproof.probes.savepoints import savepoint
from pytest_tenantproof.probes.trail.scene import Flaw, Scene, Tried
from pytest_tenantproof.probes.values import ident

__all__ = ["try_names"]

_WRITES = frozenset({"INSERT", "UPDATE", "DELETE"})
_NAMES = ("actor", "user", "role", "who", "principal")
_SETTING = re.compile(r"current_setting\(\s*'(\w+\.[\w.]+)'")
_KEY = re.compile(r"->>?\s*'([^']+)'")
_SENT = ("request.header", "request.cookie")
"""Settings that a gateway fills with what the client sent, unlike the verified claims."""
_FALSE = "7e57ab1e-0000-4000-8000-00000000f00d"
"""The false name: a uuid, so that it fits wherever a user's id does."""


def try_names(scene: Scene) -> Tried:
    """Every client role that may write a tenant table; one of which no write went through is a problem."""
    tried = Tried()
    if not scene.binding.proven:
        tried.problems["(claims)"] = "no claim or setting makes a trusted expression give a user or tenant"
    for role in (r for r in scene.catalog.client_roles if r not in scene.catalog.client_groups):
        if any(scene.catalog.privileges(table, role) & _WRITES for table in scene.catalog.tenant_tables):
            _role(scene, tried, role)
    return tried


def _role(scene: Scene, tried: Tried, role: str) -> None:
    honest = owner(scene.binding, role, scene.tenant)
    anonymous = role in scene.catalog.settings.anonymous_roles
    for table, sql in _writes(scene, role):
        said = _said(scene, honest, sql)
        if not said:
            continue
        if not anonymous and not any(scene.tenant.user in text for text in said):
            tried.flaws.append(Flaw(table.name, f"{role}'s event does not name the user who signed in", role))
        for forger in _forgers(scene, honest):
            if any(_FALSE in text for text in _said(scene, forger, sql)):
                detail = f"{forger.name} chose the name in its event{_writers(scene, table)}"
                tried.flaws.append(Flaw(table.name, detail, role))
        tried.shown += 1
        return
    tried.problems[role] = "none of its writes went through, so none left an event"


def _writers(scene: Scene, table: Table) -> str:
    """The functions by which the table's triggers write events."""
    found = (scene.catalog.functions.get(name) for name in sorted({t.function for t in table.triggers}))
    named = [f.signature for f in found if f and any(log.name in f.body for log in scene.logs)]
    return f", which {' and '.join(named)} writes" if named else ""


def _writes(scene: Scene, role: str) -> Iterator[tuple[Table, str]]:
    for table in scene.catalog.tenant_tables:
        row, held = scene.tenant.rows.get(table.name), scene.catalog.privileges(table, role)
        if row is not None and "UPDATE" in held:
            yield table, scene.touch(table, row.where)
        if "INSERT" in held and (further := scene.further(table)):
            yield table, further.insert.rpartition(" RETURNING ")[0]


def _said(scene: Scene, identity: Identity, sql: str) -> list[str]:
    """What the new events say of who it was; nothing where the write was refused."""
    with savepoint(scene.connection):
        before = _spoken(scene)
        try:
            scene.execute(identity.become)
            scene.execute(sql)
            scene.execute("RESET ROLE")
        except psycopg.Error:
            return []
        return list((_spoken(scene) - before).elements())


def _spoken(scene: Scene) -> Counter[str]:
    said: Counter[str] = Counter()
    for log in scene.logs:
        named = (column.name for column in log.columns if any(word in column.name.lower() for word in _NAMES))
        texts = ", ".join(f"{ident(name)}::text" for name in named) or "NULL"
        query = f"SELECT concat_ws(' ', ctid::text, {texts}) FROM {log.name} WHERE {scene.mine(log)}"
        said.update(row[0] for row in scene.execute(query))
    return said


def _forgers(scene: Scene, honest: Identity) -> Iterator[Identity]:
    """The user, with a false name in each setting, header and claim that is theirs to fill."""
    bodies = [function.body for function in _audit_code(scene.catalog)]
    keys = sorted({key for body in bodies for key in _KEY.findall(body)} | {"actor", "email", "sub", "user_id"})
    sent = "{" + ", ".join(f'"{key}": "{_FALSE}"' for key in keys) + "}"
    for setting in sorted({name for body in bodies for name in _SETTING.findall(body)}):
        if setting.startswith(_SENT) or not setting.startswith("request."):
            given = {**honest.settings, setting: sent if setting.startswith(_SENT) else _FALSE}
            yield replace(honest, name=f"{honest.name} that sets {setting}", settings=given)
    for claim in ("user_metadata", "raw_user_meta_data"):
        forged = owner(scene.binding, honest.role, scene.tenant, **{claim: dict.fromkeys(keys, _FALSE)})
        yield replace(forged, name=f"{honest.name} with forged {claim}")


def _audit_code(catalog: Catalog) -> Iterator[Function]:
    tables = (*catalog.tenant_tables, *catalog.audit_tables)
    triggers = {trigger.function for table in tables for trigger in table.triggers}
    for function in (catalog.functions.get(signature) for signature in sorted(triggers)):
        yield from catalog.called_by(function) if function else ()
