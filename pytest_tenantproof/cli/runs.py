"""status, drill: evidence runs by another name."""

import argparse

from pytest_tenantproof.cli.base import Answer, Verb, target_arguments

__all__ = ["VERBS"]


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
    target_arguments(parser)
    parser.add_argument("--dir", default="evidence", help="where bundles go (default: evidence/)")


VERBS = {
    "status": Verb(
        "the hardening checklist, from a fresh evidence run",
        "tenantproof status --target prod",
        _status,
        _run_arguments,
    ),
    "drill": Verb(
        "restore the newest backup and prove it", "tenantproof drill --target staging", _drill, _run_arguments
    ),
}
