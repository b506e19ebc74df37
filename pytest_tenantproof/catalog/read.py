"""Set-based queries -> one Snapshot. The number of queries is the same for ten tables and ten thousand."""

import gc
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from importlib import resources
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from pytest_tenantproof.catalog import codes, rows
from pytest_tenantproof.catalog.acl import parse_acl
from pytest_tenantproof.catalog.model import (
    PUBLIC,
    Cast,
    Column,
    Constraint,
    Database,
    DefaultPrivilege,
    EventTrigger,
    Extension,
    ForeignServer,
    Index,
    LargeObject,
    Membership,
    NamedGrants,
    Operator,
    Policy,
    ReplicationSlot,
    Role,
    Schema,
    Snapshot,
    Subscription,
    Table,
    Trigger,
    UserMapping,
)
from pytest_tenantproof.catalog.rows import Row
from pytest_tenantproof.catalog.shapes import names_its_table, written
from pytest_tenantproof.errors import CatalogError

__all__ = ["read_snapshot"]

_COLUMN = re.compile(r":varattno (-?\d+)")


def read_snapshot(connection: psycopg.Connection[Any]) -> Snapshot:
    """Reads the catalog in one REPEATABLE READ, read-only transaction, which it ends.

    Inside an open transaction it reads what that transaction sees, and leaves no trace in it.
    Raises CatalogError when a catalog cannot be read.
    """
    own = connection.info.transaction_status == TransactionStatus.IDLE
    try:
        with connection.transaction(force_rollback=True):
            if own:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # Names in expressions are qualified by what the search path hides, so it must be empty; partition
            # bounds and constants are written as the session writes times and numbers.
            connection.execute(
                "SET LOCAL search_path = ''; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, MDY';"
                " SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1"
            )
            with _no_collection():
                return _Reader(connection).read()
    except psycopg.Error as error:
        said = error.diag.message_primary or type(error).__name__
        if connection.broken:
            raise CatalogError(
                f"the connection was lost while the catalog was read: {said}.",
                remedy="see that the server is up, and run again.",
            ) from error
        raise CatalogError(
            f"the catalog could not be read: {said}.",
            remedy="grant the role CONNECT on the database and the default rights on pg_catalog.",
        ) from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pauses the cycle collector: reading makes many objects and no cycles, and half of its time went there."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def _by(rows: Iterable[Row], make: Callable[[Row], Any], key: Callable[[Any], Any]) -> dict[int, tuple[Any, ...]]:
    """Rows grouped by their first column (the relation), each group in a fixed order."""
    groups: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        groups[row[0]].append(make(row))
    return {oid: tuple(sorted(items, key=key)) for oid, items in groups.items()}


class _Reader:
    """Holds the oid -> name tables of one reading."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.major = connection.info.server_version // 10000
        self.tables: dict[int, str] = {}
        self.functions: dict[int, str] = {}
        self.roles: dict[int, str] = {0: PUBLIC}
        self.attributes: dict[int, dict[int, str]] = defaultdict(dict)
        self.columns: dict[Row, Column] = {}
        self.texts: dict[int, tuple[str, ...]] = {}

    def rows(self, name: str, **parts: str) -> list[Row]:
        text = _text(name)
        for key, value in parts.items():
            text = text.replace("{" + key + "}", value)
        return self.connection.execute(sql.SQL(text)).fetchall()

    def of(self, name: str, oids: list[int]) -> list[Row]:
        """The rows of a query about some objects."""
        return self.connection.execute(sql.SQL(_text(name)), (oids,)).fetchall()

    def read(self) -> Snapshot:
        roles = self.rows("roles")
        self.roles |= {row[0]: row[1] for row in roles}
        functions = self.rows("functions")
        self.functions = {row[0]: rows.signature(row[1], row[3]) for row in functions}
        memberships = self.rows(
            "memberships",
            inherit="a.inherit_option" if self.major >= 16 else "m.rolinherit",
            set="a.set_option" if self.major >= 16 else "true",
        )
        tables = self._tables()
        snapshot = Snapshot(
            major=self.major,
            database=self._database(),
            roles=rows.by_name(Role(*row[1:]) for row in roles),
            memberships=tuple(sorted({Membership(*row) for row in memberships}, key=repr)),
            schemas=rows.by_name(Schema(r[1], r[2], parse_acl(r[3]), r[4]) for r in self.rows("schemas")),
            tables=tables,
            functions=tuple(sorted(map(rows.function, functions), key=lambda f: f.signature)),
            types=rows.by_name(map(rows.type_, self.rows("types"))),
            default_privileges=tuple(
                sorted(
                    (
                        DefaultPrivilege(r[0], r[1], codes.DEFAULT_KINDS[r[2]], parse_acl(r[3]))
                        for r in self.rows("default_privileges")
                    ),
                    key=repr,
                )
            ),
            settings=tuple(sorted((rows.setting(*row) for row in self.rows("settings")), key=repr)),
            publications=rows.by_name(map(rows.publication, self.rows("publications"))),
        )
        return self._rest(snapshot)

    def _tables(self) -> tuple[Table, ...]:
        relations = self.rows("relations")
        self.tables = {row[0]: row[1] for row in relations}
        raw_columns = self.rows("columns")
        for row in raw_columns:
            self.attributes[row[0]][row[8]] = row[1]
        raw_constraints = self.rows(
            "constraints",
            enforced="k.conenforced" if self.major >= 18 else "true",
            period="k.conperiod" if self.major >= 18 else "false",
        )
        invalid = {
            (row[0], number) for row in raw_constraints if row[2] == "n" and not row[7] for number in row[4] or ()
        }
        columns: dict[int, list[Column]] = defaultdict(list)
        for row in raw_columns:
            columns[row[0]].append(self._column(row, (row[0], row[8]) not in invalid))
        kept = [row for row in raw_constraints if row[2] != "n"]
        self.texts = written({row[3]: self._shape(row) for row in kept}, partial(self.of, "definitions"))
        raw_policies = self.rows("policies")
        shapes = {row[5]: self._policy_shape(row) for row in raw_policies}
        self.texts |= written(shapes, partial(self.of, "expressions"))
        depends = self.rows("depends")
        hung: dict[str, dict[int, tuple[Any, ...]]] = {
            "columns": {oid: tuple(found) for oid, found in columns.items()},
            "constraints": _by(kept, self._constraint, lambda c: c.name),
            "indexes": _by(self.rows("indexes"), self._index, lambda i: i.name),
            "triggers": _by(self.rows("triggers"), self._trigger, lambda t: t.name),
            "policies": _by(raw_policies, self._policy, lambda p: p.name),
            "rules": _by(self.rows("rules"), rows.rule, lambda r: r.name),
            "reads": _by((r for r in depends if r[2] in self.tables and not r[1]), lambda r: self.tables[r[2]], str),
            "calls": _by((r for r in depends if r[2] in self.functions and r[1]), lambda r: self.functions[r[2]], str),
            "parents": _by(self.rows("inherits"), lambda r: self.tables.get(r[1], ""), str),
        }
        return rows.by_name(
            _table(row, {name: found[row[0]] for name, found in hung.items() if row[0] in found}) for row in relations
        )

    def _names(self, relation: int, numbers: Iterable[int] | None) -> tuple[str, ...]:
        if not numbers:
            return ()
        names = self.attributes.get(relation, {})
        return tuple([names.get(number, "") for number in numbers])

    def _column(self, row: Row, not_null_valid: bool) -> Column:
        """One object for all equal columns: most tables have the same few."""
        _, name, type_, not_null, default, generated, identity, acl, _ = row
        key = (name, type_, not_null, default, generated, identity, tuple(acl), not_null_valid)
        if key not in self.columns:
            kinds = (codes.GENERATED[generated], codes.IDENTITY[identity])
            self.columns[key] = Column(name, type_, not_null, not_null_valid, default, *kinds, parse_acl(acl))
        return self.columns[key]

    def _shape(self, row: Row) -> object:
        """What a constraint's definition depends on."""
        relation, _, kind, oid, keys, target_keys, deleted, *flags, tree, more = row
        if more or names_its_table(tree or ""):
            return oid
        names = (self._names(relation, keys), self._names(flags[4], target_keys), self._names(relation, deleted))
        return (kind, *names, *flags, tree)

    def _policy_shape(self, row: Row) -> object:
        """What a policy's expressions depend on."""
        relation, *_, oid, using, check = row
        if names_its_table(using or "") or names_its_table(check or ""):
            return oid
        numbers = {int(number) for number in _COLUMN.findall(f"{using} {check}")}
        return (using, check, tuple((n, self.attributes[relation].get(n)) for n in sorted(numbers)))

    def _constraint(self, row: Row) -> Constraint:
        return Constraint(
            name=row[1],
            kind=codes.CONSTRAINTS[row[2]],
            definition=self.texts[row[3]][0],
            columns=self._names(row[0], row[4]),
            validated=row[7],
            enforced=row[8],
            deferrable=row[9],
            deferred=row[10],
            target=self.tables.get(row[11], ""),
            target_columns=self._names(row[11], row[5]),
            match=codes.MATCH[row[12]],
            on_delete=codes.ACTIONS[row[13]],
            on_update=codes.ACTIONS[row[14]],
            on_delete_columns=self._names(row[0], row[6]),
            inherited=row[15],
            without_overlaps=row[16],
            triggers_enabled=row[17],
        )

    def _index(self, row: Row) -> Index:
        return Index(
            name=row[1],
            definition=row[2],
            columns=self._names(row[0], row[3][: row[4]]),
            unique=row[5],
            primary=row[6],
            exclusion=row[7],
            valid=row[8],
            predicate=row[9],
            constraint=row[10],
        )

    def _trigger(self, row: Row) -> Trigger:
        bits = row[2]
        timing = "BEFORE" if bits & 2 else "INSTEAD OF" if bits & 64 else "AFTER"
        when = re.search(r" WHEN \((.*)\) EXECUTE ", row[5], re.S) if row[6] else None
        return Trigger(
            name=row[1],
            timing=timing,
            level="ROW" if bits & 1 else "STATEMENT",
            events=tuple(event for bit, event in codes.EVENTS if bits & bit),
            function=self.functions.get(row[10], ""),
            enabled=codes.ENABLED[row[3]],
            columns=self._names(row[0], row[4]),
            when=when[1] if when else "",
            arguments=row[11],
            old_table=row[7],
            new_table=row[8],
            deferrable=row[9],
            definition=row[5],
        )

    def _policy(self, row: Row) -> Policy:
        roles = tuple(sorted(self.roles.get(oid, str(oid)) for oid in row[4]))
        return Policy(row[1], codes.COMMANDS[row[2]], row[3], roles, *self.texts[row[5]])

    def _database(self) -> Database:
        owner, acl, settings = self.rows("database")[0]
        return Database(owner, parse_acl(acl), tuple((name, value) for name, value in settings))

    def _rest(self, snapshot: Snapshot) -> Snapshot:
        run_as_owner = ", subrunasowner" if self.major >= 16 else ""
        found: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for kind, name, body in self.rows("rest", run_as_owner=run_as_owner):
            found[kind].append((name, body))
        grants = [
            NamedGrants(kind, n, parse_acl(b["acl"]), b["trusted"])
            for kind in ("language", "wrapper", "parameter")
            for n, b in found[kind]
        ]
        return replace(
            snapshot,
            extensions=rows.by_name(Extension(n, b["version"], b["schema"]) for n, b in found["extension"]),
            event_triggers=rows.by_name(self._event_trigger(n, b) for n, b in found["event_trigger"]),
            servers=rows.by_name(
                ForeignServer(n, b["wrapper"], b["owner"], parse_acl(b["acl"])) for n, b in found["server"]
            ),
            user_mappings=tuple(
                sorted(
                    (UserMapping(n, b["user"] or "", tuple(b["options"])) for n, b in found["user_mapping"]),
                    key=repr,
                )
            ),
            large_objects=tuple(
                sorted(
                    (LargeObject(int(n), b["owner"], parse_acl(b["acl"])) for n, b in found["large_object"]),
                    key=lambda o: o.oid,
                )
            ),
            named_grants=tuple(sorted(grants, key=lambda g: (g.kind, g.name))),
            operators=tuple(
                sorted(
                    (
                        Operator(n, b["left"], b["right"], self.functions.get(b["function"], ""), b["owner"])
                        for n, b in found["operator"]
                    ),
                    key=repr,
                )
            ),
            casts=tuple(
                sorted(
                    (
                        Cast(n, b["target"], b["context"], self.functions.get(b["function"], ""))
                        for n, b in found["cast"]
                    ),
                    key=repr,
                )
            ),
            subscriptions=rows.by_name(
                Subscription(n, b["owner"], b["enabled"], b["run_as_owner"] is not False)
                for n, b in found["subscription"]
            ),
            replication_slots=rows.by_name(ReplicationSlot(n, b["plugin"]) for n, b in found["slot"]),
        )

    def _event_trigger(self, name: str, body: dict[str, Any]) -> EventTrigger:
        function = self.functions.get(body["function"], "")
        enabled = codes.ENABLED[body["enabled"]]
        return EventTrigger(name, body["event"], enabled, function, body["owner"], tuple(sorted(body["tags"])))


def _table(row: Row, hung: dict[str, Any]) -> Table:
    return Table(
        name=row[1],
        schema=row[2],
        kind=codes.KINDS[row[3]],
        persistence=codes.PERSISTENCE[row[4]],
        owner=row[5],
        row_security=row[6],
        row_security_forced=row[7],
        is_partition=row[8],
        options=tuple(sorted(row[9])),
        grants=parse_acl(row[10]),
        partition_bound=row[11],
        partition_key=row[12],
        definition=row[13],
        server=row[14],
        extension=row[15],
        directive=row[16],
        cache=row[17],
        cycles=row[18],
        owned_by=row[19],
        **hung,
    )
