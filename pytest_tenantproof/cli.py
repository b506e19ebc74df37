"""tenantproof: the verbs that are not checks. Thin: each verb calls one room and prints what it says."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_tenantproof
from pytest_tenantproof.config import Settings, find_config, load_settings
from pytest_tenantproof.errors import TenantproofError, VerificationError

__all__ = ["main"]

Answer = tuple[int, dict[str, Any], list[str]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: what --help says, its arguments, and what it does."""

    help: str
    example: str
    run: Callable[[argparse.Namespace], Answer]
    arguments: Callable[[argparse.ArgumentParser], None]


def _settings(options: argparse.Namespace) -> Settings:
    named = getattr(options, "config", None)
    return load_settings(Path(named) if named else find_config(Path.cwd()))


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", required=True, metavar="T", help="a target of tenantproof.toml")
    parser.add_argument("--config", metavar="FILE", help="another tenantproof.toml")


def _migrate(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.migrate import apply, migrations_folder

    settings = _settings(options)
    settings.target(options.target)
    folder = settings.root / settings.migrations
    applied = apply(settings.dsn(options.target, "WRITER"), folder if folder.is_dir() else migrations_folder())
    names = [f"{a.version}_{a.name}" for a in applied]
    return 0, {"applied": names}, [f"applied {name}" for name in names] or ["nothing is pending"]


def _status(options: argparse.Namespace) -> Answer:
    import pytest

    arguments = [f"--evidence={options.target}", "-q"]
    arguments += [f"--evidence-config={options.config}"] if options.config else []
    arguments += [f"--evidence-dir={options.dir}"]
    status = int(pytest.main(arguments))
    return status, {"exit_status": status}, []


def _drill(options: argparse.Namespace) -> Answer:
    import pytest

    arguments = [f"--evidence={options.target}", "-m", "drill", f"--evidence-dir={options.dir}"]
    arguments += [f"--evidence-config={options.config}"] if options.config else []
    status = int(pytest.main(arguments))
    return status, {"exit_status": status}, []


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    _target(parser)
    parser.add_argument("--dir", default="evidence", help="where bundles go (default: evidence/)")


def _keys(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.attest import keys

    private, public = keys.new_key(Path(options.dir), options.name)
    lines = [
        f"private key: {private} (keep it secret; set {keys.KEY_FILE_VARIABLE} to this path)",
        f"public key:  {public} (give it to whoever verifies)",
    ]
    return 0, {"private": str(private), "public": str(public)}, lines


def _keys_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["new"], help="new: make a signing key pair")
    parser.add_argument("--dir", default=".", help="where the two files go (default: here)")
    parser.add_argument("--name", default="tenantproof", help="file name without ending")


def _verify(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.attest import keys
    from pytest_tenantproof.attest.verify import Verified, verify_bundle, verify_chain

    trusted = [keys.read_public(Path(path)) for path in options.key]
    found: list[Verified] = []
    for path in map(Path, options.paths):
        if options.chain:
            found += verify_chain(path, trusted, allow_ephemeral=options.allow_ephemeral)
        else:
            found.append(verify_bundle(path, trusted, allow_ephemeral=options.allow_ephemeral))
    note = {True: " (ephemeral: integrity only)", False: ""}
    lines = [f"ok {v.path}: {v.target} {v.verdict}, key {v.key_id[:16]}{note[v.ephemeral]}" for v in found]
    answer = [
        {"path": str(v.path), "run_id": v.run_id, "target": v.target, "verdict": v.verdict, "key_id": v.key_id}
        for v in found
    ]
    return 0, {"verified": answer}, lines


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="bundles, or with --chain folders of a target")
    parser.add_argument("--key", action="append", default=[], metavar="PUB", help="a trusted public key (PEM)")
    parser.add_argument("--chain", action="store_true", help="verify every bundle and that none is missing")
    parser.add_argument("--allow-ephemeral", action="store_true", help="accept keys that come with a scratch bundle")


def _init(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof import init

    return init.run(options.dsn, Path(options.dir), lock=options.lock, settings=_settings(options))


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dsn", help="the database to look at (default: TENANTPROOF_INIT_DSN)")
    parser.add_argument("--dir", default=".", help="where the files go (default: here)")
    parser.add_argument("--lock", action="store_true", help="record the database's catalog as tenantproof.lock")
    parser.add_argument("--config", metavar="FILE", help="another tenantproof.toml")


VERBS = {
    "init": Verb(
        "look at a database, write tenantproof.toml and .env.example",
        "TENANTPROOF_INIT_DSN=postgresql://me@db/app tenantproof init",
        _init,
        _init_arguments,
    ),
    "migrate": Verb(
        "apply migrations in order, one transaction each", "tenantproof migrate --target staging", _migrate, _target
    ),
    "status": Verb(
        "the hardening checklist, from a fresh evidence run",
        "tenantproof status --target prod",
        _status,
        _run_arguments,
    ),
    "drill": Verb(
        "restore the newest backup and prove it", "tenantproof drill --target staging", _drill, _run_arguments
    ),
    "keys": Verb("signing keys", "tenantproof keys new --dir ~/.tenantproof", _keys, _keys_arguments),
    "verify": Verb(
        "verify bundles offline",
        "tenantproof verify --key tenantproof.pub evidence/prod/20261123T020000Z-0a1b2c3d",
        _verify,
        _verify_arguments,
    ),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tenantproof", description="Evidence of tenant isolation and recovery.")
    parser.add_argument("--version", action="version", version=pytest_tenantproof.__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        sub = verbs.add_parser(name, help=verb.help, description=verb.help, epilog=f"example: {verb.example}")
        sub.add_argument("--json", action="store_true", help="answer in JSON")
        verb.arguments(sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb. Exit status: 0 done, 1 failed, 2 could not be established, 3 internal, 4 usage."""
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
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


if __name__ == "__main__":
    sys.exit(main())
