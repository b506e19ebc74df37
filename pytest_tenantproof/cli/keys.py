"""keys: signing keys, and the keys that read backups."""

import argparse
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_tenantproof.cli.base import Answer, Verb, settings_of
from pytest_tenantproof.cli.progress import Progress
from pytest_tenantproof.errors import UsageError

__all__ = ["VERBS"]


def _keys(options: argparse.Namespace) -> Answer:
    if options.action == "rotate":
        return _rotate(options)
    if options.action == "rewrap":
        return _rewrap(options)
    return _new_backup(options) if options.backup else _new(options)


def _new(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.attest import keys

    private, public = keys.new_key(Path(options.dir), options.name or "tenantproof")
    lines = [
        f"private key: {private} (keep it secret; set {keys.KEY_FILE_VARIABLE} to this path)",
        f"public key:  {public} (give it to whoever verifies)",
    ]
    return 0, {"private": str(private), "public": str(public)}, lines


def _new_backup(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.backup.rewrap import write_keypair

    private, public, pair = write_keypair(Path(options.dir), options.name or "tenantproof")
    lines = [
        f"private key: {private} (move it to the machine that restores, or to escrow; not to the one that backs up)",
        f"public key:  {public} (list its text under recipients or escrow in [tenantproof.backup])",
        pair.recipient.text,
    ]
    answer = {"private": str(private), "public": str(public), "recipient": pair.recipient.text}
    return 0, answer | {"id": pair.recipient.id}, lines


def _rotate(options: argparse.Namespace) -> Answer:
    """A new key, added to the recipients: backups from now on can be read with it too."""
    from pytest_tenantproof.backup.rewrap import write_keypair

    settings = settings_of(options)
    path = Path(settings.source)
    _with_recipient(path, "")
    name = options.name or f"tenantproof-{datetime.now(UTC):%Y%m%d}"
    private, public, pair = write_keypair(Path(options.dir), name)
    path.write_text(_with_recipient(path, pair.recipient.text), encoding="utf-8")
    lines = [
        f"private key: {private} (move it to the machine that restores)",
        f"{path}: added {pair.recipient.id} to recipients",
        "next: `tenantproof keys rewrap` lets it read the backups that are there; then remove the old key from",
        "recipients, and rewrap again, so that the old one reads nothing any more.",
    ]
    answer = {"private": str(private), "public": str(public), "recipient": pair.recipient.text}
    return 0, answer | {"id": pair.recipient.id, "config": str(path)}, lines


def _with_recipient(path: Path, recipient: str) -> str:
    """The config's text with one recipient more. Raises UsageError where it is not written as one would expect."""
    refusal = UsageError(
        f"{path} has no list `recipients = [...]` in [tenantproof.backup] that could be added to.",
        remedy='write recipients = ["tpbpub1:..."] there, with the text of the .backup.pub file.',
    )
    if not path.is_file():
        raise refusal
    text = path.read_text(encoding="utf-8")
    section = re.search(r"^\[(?:tool\.)?tenantproof\.backup\][^\n]*\n(?:(?!^\[).*\n?)*", text, re.M)
    found = re.search(r"^\s*recipients\s*=\s*\[", section[0], re.M) if section else None
    if section is None or found is None:
        raise refusal
    at = section.start() + found.end()
    added = f'{text[:at]}"{recipient}", {text[at:]}' if recipient else text
    before, after = _recipients(text), _recipients(added)
    if after != ([recipient, *before] if recipient else before):
        raise refusal
    return added


def _recipients(text: str) -> list[Any]:
    data = tomllib.loads(text)
    found = data.get("tenantproof", data.get("tool", {}).get("tenantproof", {})).get("backup", {})
    return list(found.get("recipients", ()))


def _rewrap(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.backup import key_store_spec, open_store, parse_private, store_spec
    from pytest_tenantproof.backup.recipients import all_recipients
    from pytest_tenantproof.backup.rewrap import rewrap
    from pytest_tenantproof.backup.trust import trusted_keys

    if not (options.target and options.key):
        raise UsageError("keys rewrap needs --target and --key.", remedy="see `tenantproof keys --help`.")
    settings = settings_of(options)
    settings.target(options.target)
    pair = parse_private(Path(options.key).read_text())
    recipients = all_recipients(settings.backup)
    done = rewrap(
        open_store(store_spec(settings.backup, options.target, settings.root)),
        open_store(key_store_spec(settings.backup, options.target, settings.root)),
        trusted_keys(settings),
        pair,
        recipients,
        Progress("rewrapping"),
    )
    readers = [recipient.id for recipient in recipients]
    lines = [f"{done.objects} key objects of {len(done.runs)} backups are now readable by {', '.join(readers)} alone"]
    if pair.recipient.id not in readers:
        lines.append(f"the key you used, {pair.recipient.id}, is not among them")
    return 0, {"runs": done.runs, "objects": done.objects, "readers": readers}, lines


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=["new", "rotate", "rewrap"],
        help="new: make a key pair; rotate: a new backup key, added to the recipients; "
        "rewrap: let the configured recipients, and nobody else, read the backups that are there",
    )
    parser.add_argument("--backup", action="store_true", help="new: a key that reads backups, not one that signs")
    parser.add_argument("--dir", default=".", help="where the two files go (default: here)")
    parser.add_argument("--name", help="file name without ending (default: tenantproof)")
    parser.add_argument("--target", metavar="T", help="rewrap: whose backups")
    parser.add_argument("--key", metavar="FILE", help="rewrap: a private key that can read them now")
    parser.add_argument("--config", metavar="FILE", help="another tenantproof.toml")


VERBS = {"keys": Verb("signing and backup keys", "tenantproof keys new --dir ~/.tenantproof", _keys, _arguments)}
