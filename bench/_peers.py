"""Other tools on the same cases, each run as its documentation says, with what it needs to know of the base.

A case counts as seen by a peer when its report has a line that the report on the untouched base has not; whether
that line names what changed is not asked of them.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg.conninfo

__all__ = ["PEERS", "Peer", "install"]

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".tools" / "peers"
BIN = HOME / "bin"
PACKAGES = ("pgrls", "rlsautotest", "rls-policy-tester", "trespass-rls", "rlsgrid")
SCHEMAS = ("public", "storage", "realtime")
TENANT, OTHER = "aaaaaaaa-0000-0000-0000-000000000000", "bbbbbbbb-0000-0000-0000-000000000000"
USER = "00000000-0000-0000-0000-0000000000a1"
TABLES = ("developments", "units", "messages", "attachments", "readings", "memberships", "audit_events")


@dataclass(frozen=True)
class Peer:
    """`lines` gives what the tool reports of a database and the statement that was run in it."""

    name: str
    lines: Callable[[str, str], list[str]]

    def report(self, dsn: str, statement: str) -> frozenset[str]:
        database = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        found = (line.replace(str(database), "DB") for line in self.lines(dsn, statement))
        return frozenset(re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\d+(\.\d+)?", "#", line).strip() for line in found)

    def detects(self, dsn: str, statement: str, baseline: frozenset[str]) -> bool:
        return bool(self.report(dsn, statement) - baseline)


def install() -> tuple[str, ...]:
    """Installs the peers into .tools/peers, once. Returns the names of those that are there."""
    if not (BIN / "python").exists():
        subprocess.run([str(ROOT / ".venv/bin/uv"), "venv", "-q", str(HOME)], check=True)
        command = [str(ROOT / ".venv/bin/uv"), "pip", "install", "-q", "--python", str(BIN / "python"), *PACKAGES]
        subprocess.run(command, check=True)
    return tuple(PEERS)


def _url(dsn: str) -> str:
    part = psycopg.conninfo.conninfo_to_dict(dsn)
    return f"postgresql://{part['user']}@/{part['dbname']}?host={part['host']}&port={part['port']}"


def _run(*command: str, folder: str = "", env: Mapping[str, str] | None = None) -> str:
    """What a tool prints; a crash or a time-out is one line."""
    try:
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=folder or None,
            env={**os.environ, "NO_COLOR": "1", **(env or {})},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "did not end"
    return done.stdout or done.stderr


def _pgrls(dsn: str, _: str) -> list[str]:
    lint = _run("pgrls", "lint", "--database-url", _url(dsn), "--schemas", ",".join(SCHEMAS))
    verify = _run("pgrls", "verify", "--database-url", _url(dsn))
    return [*lint.splitlines(), *verify.splitlines()]


def _rlsautotest(dsn: str, _: str) -> list[str]:
    runs = (_run("rlsautotest", "lint", "--schema", schema, "--db-url", _url(dsn)) for schema in SCHEMAS)
    return [line for text in runs for line in text.splitlines()]


def _trespass(_: str, statement: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("roles.sql", "base.sql"):
            (Path(folder) / f"0_{name}").write_text((ROOT / "tests" / "faults" / name).read_text())
        (Path(folder) / "9_change.sql").write_text(f"set search_path = public;\n{statement};\n")
        return _run("trespass", "check", "--no-color", "--no-default-grants", folder).splitlines()


def _rlsgrid(dsn: str, _: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        env = {"DATABASE_URL": _url(dsn)}
        _run("rlsgrid", "init", "--from-db", folder=folder, env=env)
        text = _run("rlsgrid", "check", "--json", folder=folder, env=env)
        # It draws its probes at random: what was skipped differs from run to run, breaches are what counts.
        return [] if '"ok": true' in text else text.splitlines()


def _policy_tester(dsn: str, _: str) -> list[str]:
    claims = {"role": "authenticated", "sub": USER, "tenant_id": TENANT}
    checks = [
        {
            "id": f"{who}.{t}",
            "as": who,
            "sql": f"select 1 from public.{t} where tenant_id = '{OTHER}'",
            "expect": "deny",
        }
        for t in TABLES
        for who in ("member", "anon")
    ]
    definition = {
        "schema_version": 1,
        "suite": "base",
        "title": "base",
        "admin_identity": "admin",
        "default_sanity_identity": "admin",
        "strict_audit": True,
        "identities": {
            "anon": {"role": "anon", "claims": {"role": "anon"}},
            "member": {"role": "authenticated", "claims": claims},
            "admin": {"role": "service_role", "admin": True},
        },
        "fixtures": {"tables": [{"table": f"public.{t}", "min_rows": 0, "rls_required": True} for t in TABLES]},
        "checks": checks,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "base.json"
        file.write_text(json.dumps(definition))
        text = _run("rls-policy-tester", "--dsn", dsn, "--file", str(file), "--no-setup")
        return [line for line in text.splitlines() if folder not in line]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("pgrls", _pgrls),
        Peer("rlsautotest", _rlsautotest),
        Peer("rls-policy-tester", _policy_tester),
        Peer("trespass-rls", _trespass),
        Peer("rlsgrid", _rlsgrid),
    )
}
