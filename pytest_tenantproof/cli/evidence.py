"""keys, verify: signing keys, and bundles checked offline."""

import argparse
from pathlib import Path

from pytest_tenantproof.cli.base import Answer, Verb

__all__ = ["VERBS"]


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


VERBS = {
    "keys": Verb("signing keys", "tenantproof keys new --dir ~/.tenantproof", _keys, _keys_arguments),
    "verify": Verb(
        "verify bundles offline",
        "tenantproof verify --key tenantproof.pub evidence/prod/20261123T020000Z-0a1b2c3d",
        _verify,
        _verify_arguments,
    ),
}
