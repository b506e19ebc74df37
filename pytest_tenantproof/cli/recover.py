"""recover: orphaned, tenant-less and misaligned rows."""

import argparse
import secrets
from datetime import UTC, datetime

from pytest_tenantproof.cli.base import Answer, Verb, settings_of, target_arguments
from pytest_tenantproof.errors import UsageError

__all__ = ["VERBS"]


def _recover(options: argparse.Namespace) -> Answer:
    from pytest_tenantproof.recover import apply_plan, plan, undo
    from pytest_tenantproof.target import connect

    if options.batch < 1 or (options.undo and options.apply):
        raise UsageError(
            "--batch is less than one, or --apply and --undo are given at once.", remedy="see `tenantproof recover -h`."
        )
    settings = settings_of(options)
    settings.target(options.target)
    with connect(settings.dsn(options.target, "WRITER"), limits={}) as connection:
        if options.undo:
            rows = undo(connection, options.undo)
            return 0, {"undone": options.undo, "rows": rows}, [f"run {options.undo}: {rows} rows are as they were"]
        before = plan(connection, settings)
        lines = [f"{s.action:10} {s.rows:8} rows of {s.table}: {s.reason}" for s in before]
        answer = {
            "before": [{"table": s.table, "action": s.action, "reason": s.reason, "rows": s.rows} for s in before]
        }
        if not options.apply or not before:
            advice = ["nothing was changed; --apply does this"] if before else ["every row is in its place"]
            return 0, {**answer, "applied": False}, [*lines, *advice]
        run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        left = sum(step.rows for step in apply_plan(connection, settings, run, options.batch))
    whole = sum(step.rows for step in before)
    lines += [f"before: {whole} rows, after: {left}", f"take it back with --undo {run}"]
    return (1 if left else 0), {**answer, "applied": True, "run": run, "left": left}, lines


def _arguments(parser: argparse.ArgumentParser) -> None:
    target_arguments(parser)
    parser.add_argument("--apply", action="store_true", help="do what the plan says; without it nothing is changed")
    parser.add_argument("--undo", metavar="RUN", default="", help="put back what a run changed")
    parser.add_argument("--batch", type=int, default=1_000, help="rows a transaction (default: 1000)")


VERBS = {
    "recover": Verb(
        "find orphaned and misaligned rows; repair or quarantine them",
        "tenantproof recover --target staging && tenantproof recover --target staging --apply",
        _recover,
        _arguments,
    ),
}
