"""tenantproof: the verbs that are not checks. Thin: each verb calls one room and prints what it says."""

import argparse
import json
import sys
from collections.abc import Sequence

import pytest_tenantproof
from pytest_tenantproof.cli import (
    audit,
    backup,
    database,
    evidence,
    gate,
    guard,
    keys,
    notify,
    recover,
    restore,
    runs,
    site,
)
from pytest_tenantproof.cli.base import Verb
from pytest_tenantproof.errors import TenantproofError, VerificationError

__all__ = ["VERBS", "main", "parser"]

VERBS: dict[str, Verb] = {
    **database.VERBS,
    **runs.VERBS,
    **evidence.VERBS,
    **gate.VERBS,
    **backup.VERBS,
    **keys.VERBS,
    **guard.VERBS,
    **restore.VERBS,
    **audit.VERBS,
    **recover.VERBS,
    **notify.VERBS,
    **site.VERBS,
}


def parser() -> argparse.ArgumentParser:
    """All verbs, as the command line takes them."""
    root = argparse.ArgumentParser(prog="tenantproof", description="Evidence of tenant isolation and recovery.")
    root.add_argument("--version", action="version", version=pytest_tenantproof.__version__)
    verbs = root.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        sub = verbs.add_parser(name, help=verb.help, description=verb.help, epilog=f"example: {verb.example}")
        sub.add_argument("--json", action="store_true", help="answer in JSON")
        verb.arguments(sub)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb. Exit status: 0 done, 1 failed, 2 could not be established, 3 internal, 4 usage."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:
        return 0 if stop.code in (0, None) else 4
    try:
        status, answer, lines = VERBS[options.verb].run(options)
    except TenantproofError as error:
        return _failed(options, error)
    text = json.dumps(answer, sort_keys=True) if options.json else "\n".join(lines)
    sys.stdout.write(f"{text}\n" if text else "")
    return status


def _failed(options: argparse.Namespace, error: TenantproofError) -> int:
    reason = error.reason if isinstance(error, VerificationError) else type(error).__name__
    if options.json:
        answer = {"error": reason, "message": error.message, "remedy": error.remedy}
        sys.stdout.write(json.dumps(answer, sort_keys=True) + "\n")
    else:
        sys.stderr.write(f"tenantproof {options.verb}: {reason}: {error}\n")
    return error.exit_status
