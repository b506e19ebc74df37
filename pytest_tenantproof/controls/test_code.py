"""4xx: the product's own code and what it ships to browsers."""

import gzip
from collections.abc import Iterable
from typing import Any

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.codebase import CodeBase, raw_connects, ungated_writes
from pytest_tenantproof.config import Settings
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import CHANGE, FLOW, PRIVILEGE
from pytest_tenantproof.model import Severity
from pytest_tenantproof.scan import Known, known_of, look_in_source, scan_contents

_KEY = "sb_secret_" + "0123456789abcdefghijkl_01234567"
_SECRETS = known_of(Settings(), {})
_SERVICE = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl"


def _code(path: str, text: str) -> dict[str, Any]:
    return {"code": CodeBase({path: text}), "secrets": _SECRETS}


def _bundle(path: str, content: bytes) -> dict[str, Any]:
    return {"bundles": [(path, content)], "secrets": _SECRETS}


@control(
    "TP411",
    title="Server code reaches the database through the tenant-scoped client alone",
    severity=Severity.CRITICAL,
    requirement="C2",
    maps=PRIVILEGE,
)
@falsified_by(given={"code": CodeBase({"jobs.py": "import psycopg\npsycopg.connect('service=app')\n"})})
@falsified_by(given={"code": CodeBase({"jobs.py": "from sqlalchemy import create_engine\n"})})
@falsified_by(given={"code": CodeBase({"jobs.py": "import importlib\nimportlib.import_module(input())\n"})})
@falsified_by(given={"code": CodeBase({"jobs.py": "def broken(:\n"})})
def test_no_raw_connects(catalog: Catalog, code: CodeBase, findings: Findings) -> None:
    """One module that connects by itself has the whole database, and nobody sees it in a review of the rest.

    In the Python files of `guard.code_paths`, outside `guard.client_modules`, no database driver may be used but
    for what holds no connection (psycopg.sql, errors, rows, types); no driver's program may be run, no module
    loaded by a name made at run time, and every file has to parse.
    """
    for found in raw_connects(code.beside(catalog.settings.guard.client_modules)):
        fix = "use pytest_tenantproof.client, or name the module in guard.client_modules."
        findings.add(found.where, found.detail, fix=fix)


@control(
    "TP412",
    title="Service-role credentials are known to the allowed modules alone",
    severity=Severity.CRITICAL,
    requirement="C1",
    maps=PRIVILEGE,
)
@falsified_by(given=_code("jobs.py", f"KEY = '{_KEY}'\n"))
@falsified_by(
    given={
        "code": CodeBase({"jobs.py": "DSN = 'postgresql://postgres:hunter22@db.internal/app'\n"}),
        "secrets": _SECRETS,
    }
)
@falsified_by(
    given={"code": CodeBase({"jobs.ts": "const key = process.env.SUPABASE_SERVICE_ROLE_KEY;\n"}), "secrets": _SECRETS}
)
def test_no_service_credentials_in_code(catalog: Catalog, code: CodeBase, secrets: Known, findings: Findings) -> None:
    """A credential in the source is in every clone of it; a variable's name shows who is handed the credential.

    In all source files of `guard.code_paths` outside `guard.client_modules`: tokens, keys, connection strings
    with a password, the values of `guard.secret_variables`, and their names.
    """
    for path, text in code.beside(catalog.settings.guard.client_modules).items():
        for line, find in look_in_source(text, secrets):
            fix = "move it to a module of guard.client_modules, and change the credential if it was ever committed."
            findings.add(f"{path}:{line}", f"{find.detail} ({find.kind})", fix=fix)


@control(
    "TP413",
    title="No seed, demo or onboarding script writes without asking the gate",
    severity=Severity.HIGH,
    requirement="A2",
    maps=CHANGE,
)
@falsified_by(given={"scripts": CodeBase({"seed.py": "db.execute('DELETE FROM tenants')\n"})})
@falsified_by(given={"scripts": CodeBase({"seed.py": "client.table('tenants').upsert(rows).execute()\n"})})
@falsified_by(given={"scripts": CodeBase({"seed.sql": "TRUNCATE tenants;\n"})})
def test_scripts_ask_the_gate(catalog: Catalog, scripts: CodeBase, findings: Findings) -> None:
    """Demo data once landed in production because a script trusted one environment variable.

    In the files of `guard.script_paths`: Python that inserts, updates, deletes, truncates, copies or drops has to
    call `pytest_tenantproof.gates.require_demo_seed` before, where nothing can pass it by. Files in other
    languages cannot; one that only a gated script runs is named in `guard.gated_files`.
    """
    for found in ungated_writes(scripts.beside(catalog.settings.guard.gated_files)):
        findings.add(found.where, found.detail, fix="call require_demo_seed(connection, target) first.")


@control(
    "TP414",
    title="What browsers load holds no credential",
    severity=Severity.CRITICAL,
    requirement="C1",
    maps=FLOW,
)
@falsified_by(given=_bundle("admin.js", f"const k = `{_KEY}`".encode()))
@falsified_by(given=_bundle("admin.js.gz", gzip.compress(_SERVICE.encode(), mtime=0)))
@falsified_by(given=_bundle("admin.js", b"const e = {VITE_SUPABASE_JWT_SECRET: 1}"))
def test_bundles_hold_no_credential(bundles: Iterable[tuple[str, bytes]], secrets: Known, findings: Findings) -> None:
    """A service key in a bundle is every tenant's data for whoever opens the developer tools.

    Every file of `guard.client_bundles`, as `tenantproof scan` reads it: compressed files, source maps, wasm and
    base64 too. An anonymous key is fine.
    """
    for leak in scan_contents(bundles, secrets).leaks:
        where = f"{leak.path}:{leak.offset}{f' ({leak.inside})' if leak.inside else ''}"
        mark = f" [{leak.fingerprint}]" if leak.fingerprint else ""
        findings.add(where, f"{leak.kind}: {leak.detail}{mark}", fix="change the credential, then rebuild without it.")
