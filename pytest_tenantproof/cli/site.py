"""site: the evidence folder as a static dashboard."""

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from pytest_tenantproof.cli.base import Answer, Verb
from pytest_tenantproof.errors import plain

__all__ = ["VERBS"]


def _site(options: argparse.Namespace) -> Answer:
    """Exit 1 where a bundle is refused or the history is broken: the site is written all the same, and says so."""
    from pytest_tenantproof.attest import keys
    from pytest_tenantproof.report.site import Trust, build

    trust = Trust(tuple(keys.read_public(Path(path)) for path in options.key), options.allow_ephemeral)
    out = Path(options.out)
    built = build(Path(options.evidence), out, trust, datetime.now(UTC), fresh=options.fresh)
    states = ", ".join(f"{count} {state}" for state, count in built.states.items())
    lines = [f"wrote {out / 'index.html'}: {states}; {built.examined} examined, {built.pages} pages"]
    lines += map(plain, built.problems)
    return (1 if built.states.get("refused") or built.problems else 0), {"out": str(out), **asdict(built)}, lines


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evidence", default="evidence", metavar="DIR", help="the evidence folder (evidence)")
    parser.add_argument("--out", default="site", metavar="DIR", help="where the site goes (site)")
    parser.add_argument("--key", action="append", default=[], metavar="PUB", help="a trusted public key (PEM)")
    parser.add_argument("--allow-ephemeral", action="store_true", help="show the integrity of scratch bundles")
    parser.add_argument("--fresh", action="store_true", help="verify everything again, whatever an earlier build knew")


VERBS = {
    "site": Verb(
        "render the evidence folder as a static dashboard",
        "tenantproof site --evidence evidence --key tenantproof.pub --out site",
        _site,
        _arguments,
    ),
}
