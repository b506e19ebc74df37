"""Who can act as whom: the whole membership graph (pg_auth_members, pg_roles)."""

from collections import defaultdict
from collections.abc import Iterable

from pytest_tenantproof.catalog.model import PUBLIC, Grant, Role, Snapshot

__all__ = ["RoleGraph"]


class RoleGraph:
    """Answers about roles that do not exist are empty, never an error."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.roles = {role.name: role for role in snapshot.roles}
        self._inherits: dict[str, set[str]] = defaultdict(set)
        self._reaches: dict[str, set[str]] = defaultdict(set)
        for m in snapshot.memberships:
            if m.inherit:
                self._inherits[m.member].add(m.role)
            if m.inherit or m.set or m.admin:
                self._reaches[m.member].add(m.role)
        self._acts: dict[str, frozenset[str]] = {}
        self._becomes: dict[str, frozenset[str]] = {}

    def acts_as(self, role: str) -> frozenset[str]:
        """The role, PUBLIC, and every role whose privileges it has without SET ROLE."""
        if role not in self._acts:
            self._acts[role] = _closure(role, self._inherits) | {PUBLIC}
        return self._acts[role]

    def becomes(self, role: str) -> frozenset[str]:
        """What `acts_as` gives, and every role it reaches by SET ROLE or by granting itself membership."""
        if role not in self._becomes:
            self._becomes[role] = _closure(role, self._reaches) | {PUBLIC}
        return self._becomes[role]

    def logins_reaching(self, roles: Iterable[str]) -> tuple[Role, ...]:
        """Login roles, superusers aside, that can act as or become one of `roles`."""
        wanted = set(roles)
        logins = (role for role in self.roles.values() if role.login and not role.superuser)
        return tuple(sorted((r for r in logins if self.becomes(r.name) & wanted), key=lambda r: r.name))

    def granted(self, grants: Iterable[Grant], role: str, *, reach: bool = False) -> frozenset[str]:
        """The privileges in `grants` that `role` exercises (with `reach`, also after SET ROLE)."""
        names = self.becomes(role) if reach else self.acts_as(role)
        return frozenset(grant.privilege for grant in grants if grant.grantee in names)


def _closure(start: str, edges: dict[str, set[str]]) -> frozenset[str]:
    seen, todo = {start}, [start]
    while todo:
        found = edges.get(todo.pop(), set()) - seen
        seen |= found
        todo.extend(found)
    return frozenset(seen)
