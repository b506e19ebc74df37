"""restore: a backup into a target that is provably not production."""

import argparse
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_tenantproof.cli.base import Answer, Verb, settings_of, target_arguments
from pytest_tenantproof.errors import BackupError, UsageError

if TYPE_CHECKING:
    from pytest_tenantproof.backup import Store
    from pytest_tenantproof.backup.restore import RestoreRequest, RestoreResult

__all__ = ["VERBS"]


def _restore(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.backup.restore import run_restore

    if options.put_back and not options.tenant:
        raise UsageError("--put-back goes with --tenant.", remedy="name the tenant whose rows are put back.")
    if options.replace and options.tenant:
        raise UsageError("--replace is for whole restores.", remedy="leave out --replace or --tenant.")
    with _request(options) as request:
        if options.tenant:
            return _tenant(request, options)
        result = run_restore(request)
    return 0, _answer(result), _lines(result)


def _tenant(request: "RestoreRequest", options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.backup.restore import open_source
    from pytest_tenantproof.backup.restore.run import run_tenant_restore
    from pytest_tenantproof.backup.restore.tenant import export_tenant

    if options.out:
        source = open_source(request.store, request.key_store, request.run, request.trusted, request.pair)
        rows = export_tenant(source, options.tenant, Path(options.out))
        return 0, {"out": options.out, "rows": rows}, [f"wrote {options.out}: {rows} rows, to be reviewed"]
    diffs = run_tenant_restore(request, options.tenant)
    word = "missing" if request.dry_run else "brought back"
    changed = "put back" if request.put_back and not request.dry_run else "differ"
    lines = [f"{d.table}: {d.missing} {word}, {d.differing} {changed}, {d.extra} not in the backup" for d in diffs]
    answer = {"run": request.run, "tenant": options.tenant, "dry_run": request.dry_run}
    return (
        0,
        answer | {"tables": [asdict(d) for d in diffs]},
        lines or ["all of the tenant's rows are as in the backup"],
    )


@contextlib.contextmanager
def _request(options: argparse.Namespace) -> "Iterator[RestoreRequest]":
    from pytest_tenantproof.backup import key_store_spec, open_store, store_spec
    from pytest_tenantproof.backup.restore import RestoreRequest
    from pytest_tenantproof.backup.trust import private_key, trusted_keys

    settings, target = settings_of(options), options.target
    settings.target(target)
    dsn, trusted, pair = settings.dsn(target, "WRITER"), trusted_keys(settings), private_key(settings)
    source = options.source or target
    with (
        contextlib.closing(open_store(store_spec(settings.backup, source, settings.root))) as store,
        contextlib.closing(open_store(key_store_spec(settings.backup, source, settings.root))) as key_store,
    ):
        yield RestoreRequest(
            run=_chosen(store, options, source, trusted),
            target=target,
            dsn=dsn,
            settings=settings,
            store=store,
            key_store=key_store,
            trusted=trusted,
            pair=pair,
            dry_run=options.dry_run,
            put_back=options.put_back,
            in_place=options.replace,
        )


def _chosen(store: "Store", options: argparse.Namespace, source: str, trusted: Mapping[str, bytes]) -> str:
    """The run that is named, or the newest one: if that is not verified, nobody chooses an older one unasked."""
    from pytest_tenantproof.backup import newest_run
    from pytest_tenantproof.backup.examine import examine_all

    if options.backup != "latest":
        return str(options.backup)
    newest = newest_run(store)
    if newest is None:
        raise BackupError(f"{store.url} holds no backup.", remedy="name the target that it is of with --source.")
    examined = examine_all(store, trusted, source)
    if examined.newest is None or examined.newest.run != newest.id:
        reason = dict(examined.refused).get(newest.id, "it is not the newest that verifies")
        raise BackupError(
            f"the newest backup {newest.id} is refused: {reason}", remedy="name an older one that you trust."
        )
    return newest.id


def _lines(result: "RestoreResult") -> list[str]:
    manifest, made = result.manifest, result.rebuilt
    lines = [f"dropped {name}, left by a restore that was ended" for name in result.swept]
    lines += [f"role {name} {'was' if made else 'would be'} created, without a login" for name in result.roles]
    lines += [f"tenant {tenant} was erased and is not brought back" for tenant in result.skipped]
    lines += [f"not included: {entry}" for entry in manifest.not_included]
    if made is None:
        return [*lines, f"backup {manifest.run} verifies; it would replace {result.database} (dry run)"]
    lines += [f"not as it was, on another major version: {entry}" for entry in made.definitions]
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.seconds.items())
    what = f"{made.tables} tables, {made.tenants} tenants, {made.rows} rows"
    return [*lines, f"{result.database} is backup {manifest.run}: {what}, equal to its manifest ({took})"]


def _answer(result: "RestoreResult") -> dict[str, Any]:
    made = result.rebuilt
    return {
        "run": result.manifest.run,
        "database": result.database,
        "restored": made is not None,
        "tables": made.tables if made else None,
        "tenants": made.tenants if made else None,
        "rows": made.rows if made else None,
        "definitions": made.definitions if made else None,
        "seconds": dict(made.seconds) if made else None,
        "skipped_tenants": result.skipped,
        "roles": result.roles,
        "swept": result.swept,
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    target_arguments(parser)
    parser.add_argument("--from", dest="backup", required=True, metavar="BACKUP", help="a backup's run id, or `latest`")
    parser.add_argument("--source", metavar="T", help="the target that the backup is of (default: --target)")
    parser.add_argument("--tenant", metavar="ID", help="bring back this tenant's missing rows, beside the others")
    parser.add_argument(
        "--replace", action="store_true", help="empty the target's own database and fill it, where no other can be made"
    )
    parser.add_argument("--put-back", action="store_true", help="with --tenant: rows that differ become what they were")
    parser.add_argument("--out", metavar="FILE", help="with --tenant: write its rows as a script for psql instead")
    parser.add_argument("--dry-run", action="store_true", help="verify the backup and the target; change nothing")


VERBS = {
    "restore": Verb(
        "bring a backup back into a target that is not production",
        "tenantproof restore --from latest --source prod --target staging",
        _restore,
        _arguments,
    ),
}
