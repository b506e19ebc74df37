"""scan, environment, seed-demo: what may reach a browser, and what may be seeded."""

import argparse
import os
from dataclasses import asdict
from pathlib import Path

from pytest_tenantproof.cli.base import Answer, Verb, settings_of, target_arguments

__all__ = ["VERBS"]


def _scan(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.scan import known_of, scan

    found = scan([Path(path) for path in options.paths], known_of(settings_of(options), os.environ))
    lines = [
        f"{leak.path}:{leak.offset}{f' ({leak.inside})' if leak.inside else ''}: {leak.kind}: {leak.detail}"
        f"{f' [{leak.fingerprint}]' if leak.fingerprint else ''}"
        for leak in found.leaks
    ]
    lines.append(f"{len(found.leaks)} finding(s) in {found.files} file(s), {found.bytes} bytes")
    return (1 if found.leaks else 0), asdict(found), lines


def _scan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="built files or folders")
    parser.add_argument("--config", metavar="FILE", help="another tenantproof.toml")


def _environment(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof import gates
    from pytest_tenantproof.errors import GateRefused
    from pytest_tenantproof.target import connect

    settings = settings_of(options)
    if (settings.target(options.target).class_ == "live") != (options.set == "production"):
        raise GateRefused(
            f"target {options.target!r} cannot be marked as {options.set}: its class says otherwise.",
            remedy="live targets are production, and only they are; correct the class or the mark.",
        )
    with connect(settings.dsn(options.target, "WRITER")) as connection:
        gates.mark(connection, options.set, os.environ.get(gates.SECRET, ""))
    return 0, {"environment": options.set}, [f"{options.target} is marked as {options.set}"]


def _environment_arguments(parser: argparse.ArgumentParser) -> None:
    target_arguments(parser)
    choices = ["production", "staging", "development"]
    parser.add_argument("--set", required=True, choices=choices, help="what the database is; production is for good")


def _seed_demo(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.demo import fill_demo
    from pytest_tenantproof.gates import require_demo_seed
    from pytest_tenantproof.target import connect

    settings = settings_of(options)
    settings.target(options.target)
    with connect(settings.dsn(options.target, "WRITER"), limits={}) as connection:
        require_demo_seed(connection, options.target, settings=settings)
        fill_demo(connection)
    return 0, {"seeded": options.target}, [f"{options.target} now holds the demo data"]


VERBS = {
    "scan": Verb("look for credentials in built front-end files", "tenantproof scan dist/", _scan, _scan_arguments),
    "environment": Verb(
        "mark a database as what it is, so that destructive scripts know",
        "tenantproof environment --target staging --set staging",
        _environment,
        _environment_arguments,
    ),
    "seed-demo": Verb(
        "load the demo data where nothing says production",
        "ALLOW_DEMO_SEED=true DEMO_SEED_SECRET=... tenantproof seed-demo --target staging",
        _seed_demo,
        target_arguments,
    ),
}
