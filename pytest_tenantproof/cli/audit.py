"""seal: audit events under signed seals, kept outside the database."""

import argparse
from pathlib import Path

from pytest_tenantproof.cli.base import Answer, Verb, settings_of, target_arguments
from pytest_tenantproof.errors import SigningKeyError

__all__ = ["VERBS"]


def _seal(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.attest.keys import KEY_FILE_VARIABLE, load_signer
    from pytest_tenantproof.audit import make_partitions, seal, seals_folder
    from pytest_tenantproof.backup.trust import trusted_keys
    from pytest_tenantproof.target import connect

    settings = settings_of(options)
    settings.target(options.target)
    folder = seals_folder(Path(options.dir), options.target)
    if options.verify:
        return _verify(options, folder)
    signer = load_signer()
    if signer is None:
        raise SigningKeyError(
            "no key to seal with.", remedy=f"set {KEY_FILE_VARIABLE}; `tenantproof keys new` makes one."
        )
    with connect(settings.dsn(options.target, "WRITER")) as connection:
        make_partitions(connection)
        made = seal(connection, folder, options.target, signer, trusted_keys(settings))
    lines = [f"{item.range}: {item.events} events, root {item.root[:16]}" for item in made]
    answer = {"seals": [{"number": s.number, "events": s.events, "root": s.root, "sha256": s.digest} for s in made]}
    return 0, answer, lines or ["nothing was closed since the last seal"]


def _verify(options: argparse.Namespace, folder: Path) -> Answer:
    from pytest_tenantproof.audit import compare, read_seals
    from pytest_tenantproof.backup.trust import trusted_keys
    from pytest_tenantproof.errors import AuditError
    from pytest_tenantproof.target import connect

    settings = settings_of(options)
    chain = read_seals(folder, trusted_keys(settings))
    if not chain:
        raise AuditError(f"{folder} holds no seal.", remedy="make the first with `tenantproof seal`.")
    if options.head and options.head not in {item.digest for item in chain}:
        raise AuditError(
            "the seal that --head names is not in this chain: its end was cut.", remedy="find the cut seals."
        )
    with connect(settings.dsn(options.target, "WRITER")) as connection:
        found = compare(connection, folder, chain)
    lines = [f"{item.where}: {item.what}" for item in found]
    events = sum(item.events for item in chain)
    answer = {"seals": len(chain), "events": events, "head": chain[-1].digest, "tampered": lines}
    return (1 if found else 0), answer, lines or [f"{events} events match {len(chain)} seals; head {chain[-1].digest}"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    target_arguments(parser)
    parser.add_argument("--dir", default="evidence", help="where evidence goes (default: evidence/)")
    parser.add_argument("--verify", action="store_true", help="compare the events with the seals that are there")
    parser.add_argument(
        "--head", metavar="SHA256", default="", help="--verify: a seal seen earlier, which must still be there"
    )


VERBS = {
    "seal": Verb(
        "seal closed ranges of audit events, or verify them",
        "tenantproof seal --target prod && tenantproof seal --target prod --verify",
        _seal,
        _arguments,
    ),
}
