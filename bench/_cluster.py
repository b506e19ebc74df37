"""A server of its own with the benchmark's base, copies of it, and what the controls say of a copy."""

import atexit
import contextlib
import inspect
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import psycopg
from psycopg import sql

from bench._peers import Peer
from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.catalog.model import Snapshot
from pytest_tenantproof.config import Settings
from pytest_tenantproof.controls.judge import functions, judge, static_ids
from pytest_tenantproof.errors import TenantproofError
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.probes import follow, probe, scan
from pytest_tenantproof.target import EmbeddedPostgres, TargetInfo, find_bin, rolled_back, start
from tests.naming import changed, names
from tests.support import faults_settings, load_faults_base

__all__ = ["Cluster", "Copy", "Verdict", "judge_case", "open_cluster"]

BASE = "base"
SCRATCH = TargetInfo("bench", "scratch", "18", BASE, "1", "postgres", False, "")


@dataclass(frozen=True)
class Verdict:
    """`red`: controls that are not green; `explained`: those of them with a finding that names what changed."""

    red: tuple[str, ...] = ()
    explained: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Copy:
    dsn: str
    statement: str
    failed: str = ""


class Cluster:
    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self.settings: Settings = faults_settings()
        load_faults_base(server, BASE)
        self.base = self._snapshot(server.dsn(BASE))
        self._numbers = itertools.count(1)
        self._baselines: dict[str, frozenset[str]] = {}

    @staticmethod
    def _snapshot(dsn: str) -> Snapshot:
        with psycopg.connect(dsn, autocommit=True) as connection:
            return read_snapshot(connection)

    @contextlib.contextmanager
    def copy(self, statement: str, undo: str) -> Iterator[Copy]:
        """A fresh copy of the base with the statement run in it. Undone and dropped at the end."""
        name = f"x{os.getpid()}_{next(self._numbers)}"
        self._make(name)
        dsn = self.server.dsn(name)
        try:
            yield Copy(dsn, statement, _execute(dsn, statement))
        finally:
            if undo and (problem := _execute(dsn, undo)):
                raise RuntimeError(f"undo failed: {problem}")
            self._admin(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _make(self, name: str) -> None:
        parts = sql.Identifier(name), sql.Identifier(BASE)
        self._admin(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*parts))
        self._admin(sql.SQL("REVOKE CREATE, TEMPORARY ON DATABASE {} FROM PUBLIC").format(parts[0]))

    def _admin(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.server.dsn(), autocommit=True) as admin:
            admin.execute(statement)

    def peer_baseline(self, peer: Peer) -> frozenset[str]:
        """What a peer says of the untouched base."""
        if peer.name not in self._baselines:
            with self.copy("select 1", "") as untouched:
                self._baselines[peer.name] = peer.report(untouched.dsn, "select 1")
        return self._baselines[peer.name]


def open_cluster() -> Cluster:
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return Cluster(stack.enter_context(start(find_bin(18))))


@cache
def live_ids() -> tuple[str, ...]:
    """Controls that need no more than a database that may be attacked."""
    given = {"catalog", "findings", "probes", "trail", "stored", "database", "today", "target"}
    return tuple(i for i in functions() if i[2] in "35" and _asked(i) <= given and i not in static_ids())


def _asked(control: str) -> set[str]:
    return set(inspect.signature(functions()[control]).parameters)


def _execute(dsn: str, statement: str) -> str:
    """ "" or the error."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET search_path = public")
        try:
            connection.execute(statement.encode())
        except psycopg.Error as error:
            return str(error).splitlines()[0]
    return ""


def judge_case(cluster: Cluster, copy: Copy) -> Verdict:
    if copy.failed:
        return Verdict(error=f"the statement failed: {copy.failed}")
    try:
        with psycopg.connect(copy.dsn, autocommit=True) as connection:
            snapshot = read_snapshot(connection)
            catalog = Catalog(snapshot, cluster.settings)
            results = [judge(i, catalog) for i in static_ids() if not i.startswith("TP9")]
            given = {"probes": probe(connection, catalog), "stored": scan(connection, catalog)}
            given |= {"trail": follow(connection, catalog)} if catalog.audit_tables else {}
            given |= {"today": datetime.now(UTC).date(), "target": SCRATCH}
            for control in (i for i in live_ids() if "trail" in given or "trail" not in _asked(i)):
                with rolled_back(connection):
                    results.append(judge(control, catalog, database=connection, **given))
    except TenantproofError as error:
        return Verdict(error=str(error).splitlines()[0])
    bad = [r for r in results if r.outcome not in (Outcome.PASSED, Outcome.NOT_APPLICABLE)]
    if crashed := [f"{r.control} {r.outcome}: {r.reason}" for r in bad if r.outcome is Outcome.ERROR]:
        return Verdict(red=tuple(r.control for r in bad), error="; ".join(crashed))
    concerned = changed(cluster.base, snapshot) or _mentioned(cluster.base, copy.statement)
    hits = [(r.control, f) for r in bad for f in r.findings if names(f, concerned)]
    return Verdict(
        red=tuple(r.control for r in bad),
        explained=tuple(dict.fromkeys(control for control, _ in hits)),
        named=tuple(dict.fromkeys(f.object for _, f in hits)),
        details=tuple(dict.fromkeys(f"{r.control} {f.object}: {f.detail}" for r in bad for f in r.findings)),
    )


def _mentioned(base: Snapshot, statement: str) -> frozenset[str]:
    words = set(re.findall(r"\w+", statement.lower()))
    return frozenset(t.name for t in base.tables if t.name.rpartition(".")[2] in words)
