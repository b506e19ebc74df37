"""Who can act as whom: the whole membership graph (pg_auth_members, pg_roles)."""

from collections import defaultdict
from collections.abc import Collection, Iterable

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

    def groups_of(self, members: Collection[str], apart: Collection[str]) -> frozenset[str]:
        """Roles that do nothing but hold privileges for `members`: what they may, the members may.

        None of those in `apart`, none with an attribute, and none that anybody but `members` or a role in `apart`
        is a member of, or that leads on to another role.
        """
        found = {name for member in members for name in self.becomes(member) if name in self.roles}
        found -= {*members, *apart, *(name for name in found if self._is_strong(self.roles[name]))}
        while left := {name for name in found if not self._is_group(name, {*members, *found}, apart)}:
            found -= left
        return frozenset(found)

    @staticmethod
    def _is_strong(role: Role) -> bool:
        strong = (role.superuser, role.bypass_rls, role.replication, role.create_role, role.create_db, role.login)
        return any(strong) or role.name.startswith("pg_")

    def _is_group(self, name: str, fellows: Collection[str], apart: Collection[str]) -> bool:
        members = {member for member, roles in self._reaches.items() if name in roles}
        return self.becomes(name) - {PUBLIC} <= {*fellows} and members <= {*fellows, *apart}

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
