"""Writes the dashboard: pages that changed, and beside them what the next build need not read again."""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata, resources
from pathlib import Path

from pytest_tenantproof.attest import runlog, sign
from pytest_tenantproof.attest.verify import Link, check_links
from pytest_tenantproof.attest.verify_log import open_log
from pytest_tenantproof.errors import EvidenceError, UsageError, VerificationError
from pytest_tenantproof.report.site import pages
from pytest_tenantproof.report.site.gather import STATES, Cache, Seen, Trust, gather

__all__ = ["Built", "build"]

_CACHE = ".tenantproof-site.jsonl"


@dataclass(frozen=True, slots=True)
class Built:
    """Bundles by verification state, how many were examined anew, and what is wrong with the history."""

    states: Mapping[str, int]
    examined: int
    pages: int
    problems: tuple[str, ...]


def build(root: Path, out: Path, trust: Trust, now: datetime, *, fresh: bool = False) -> Built:
    """Renders the evidence folder `root` into `out`. With `fresh`, nothing of an earlier build is believed.

    Raises UsageError for a folder that is no evidence, or an `out` that holds something else; EvidenceError where
    `out` cannot be written.
    """
    if not runlog.targets(root):
        raise UsageError(f"{root} holds no bundle.", remedy="name the evidence folder with --evidence.")
    _require_ours(out)
    cache = {} if fresh else _read_cache(out / _CACHE)
    found = gather(root, trust, cache)
    targets: dict[str, list[Seen]] = {}
    for seen in found:
        targets.setdefault(seen.folder, []).append(seen)
    frame = _frame(root, trust, now, targets)
    new = {seen.digest for seen in found if seen.digest not in cache}
    try:
        written = _write_all(out, _pages(frame, targets, new, out))
        _sweep(out, found)
        _write_cache(out / _CACHE, found)
    except OSError as error:
        raise EvidenceError(
            f"the site could not be written: {error.strerror or error}.", remedy="check free space and --out."
        ) from error
    problems = [f"{target}: {what}" for target, what in frame.problems.items()]
    problems += [frame.log] if frame.log_state == "bad" else []
    states = Counter(seen.state for seen in found)
    return Built({state: states[state] for state in STATES if states[state]}, len(new), written, tuple(problems))


def _require_ours(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is no folder.", remedy="name another --out.")
    if out.is_dir() and any(out.iterdir()) and not (out / _CACHE).is_file():
        raise UsageError(f"{out} holds something that is no site.", remedy="name an empty folder with --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / _CACHE).touch()
    except OSError as error:
        raise EvidenceError(f"{out} cannot be made: {error.strerror}.", remedy="name another --out.") from error


def _frame(root: Path, trust: Trust, now: datetime, targets: Mapping[str, Sequence[Seen]]) -> pages.Frame:
    problems = {target: problem for target, runs in targets.items() if (problem := _chain_problem(runs))}
    if not trust.keys and not trust.allow_ephemeral:
        return pages.Frame(now, "No key was given to this build: nothing here is verified.", "", problems)
    try:
        current, entries = open_log(root, trust.keys, allow_ephemeral=trust.allow_ephemeral)
        _check_entries(entries, targets)
    except VerificationError as error:
        return pages.Frame(now, f"Log of runs: {error.reason}: {error.message}", "bad", problems)
    whole = f"Log of runs: {current.size} runs, none removed, replaced or reordered ({current.origin})."
    if current.key_id in map(sign.key_id, trust.keys):
        return pages.Frame(now, whole, "good", problems)
    return pages.Frame(now, f"{whole} Integrity only: signed by a key that came with a bundle.", "", problems)


def _check_entries(entries: Iterable[runlog.Entry], targets: Mapping[str, Sequence[Seen]]) -> None:
    reports = {(seen.folder, seen.run_id): seen.report_sha256 for runs in targets.values() for seen in runs}
    for entry in entries:
        if reports.get((entry.target, entry.run_id), "") not in ("", entry.report_sha256):
            raise VerificationError(
                "log-run-replaced", f"run {entry.run_id} of {entry.target} is not the one that was logged."
            )


def _chain_problem(runs: Sequence[Seen]) -> str:
    """How a target's chain is broken; bundles that are refused have no place in it."""
    read = [run for run in runs if run.summary and run.report_sha256]
    try:
        if read:
            check_links([Link(r.run_id, r.report_sha256, r.summary.previous) for r in read if r.summary])
    except VerificationError as error:
        return f"{error.reason}: {error.message}"
    return ""


def _pages(
    frame: pages.Frame, targets: Mapping[str, Sequence[Seen]], new: set[str], out: Path
) -> Iterator[tuple[str, bytes]]:
    """Path and content of each page that is new or may have changed."""
    yield "index.html", pages.index_page(frame, targets)
    for target, runs in targets.items():
        yield pages.target_path(target), pages.target_page(frame, target, runs)
        for run in runs:
            path = pages.run_path(run)
            if run.digest in new or not (out / path).is_file():
                yield path, pages.run_page(frame, run)


def _write_all(out: Path, made: Iterable[tuple[str, bytes]]) -> int:
    count = 0
    for path, data in made:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        _replace(out / path, data)
        count += 1
    return count


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def _sweep(out: Path, found: Sequence[Seen]) -> None:
    """Pages of bundles that are gone go too; that they are gone is for the log of runs to say."""
    wanted = {pages.run_path(seen) for seen in found} | {pages.target_path(seen.folder) for seen in found}
    for path in (out / "targets").glob("*/*.html"):
        if str(path.relative_to(out)) not in wanted:
            path.unlink()


def _made_by() -> str:
    """Another tool, or another template, makes another site."""
    folder = resources.files("pytest_tenantproof.report").joinpath("templates")
    texts = [file.read_text("utf-8") for file in sorted(folder.iterdir(), key=lambda f: f.name)]
    version = metadata.version("pytest-tenantproof")
    return hashlib.sha256(json.dumps(["tenantproof/site/1", version, *texts]).encode()).hexdigest()


def _read_cache(path: Path) -> Cache:
    """What an earlier build knew. One that cannot be read is none: everything is examined again."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as lines:
        if json.loads(next(lines, b"null")) == _made_by():
            return {seen.digest: seen for seen in (Seen.from_json(json.loads(line)) for line in lines)}
    return {}


def _write_cache(path: Path, found: Iterable[Seen]) -> None:
    lines = [json.dumps(_made_by()), *(json.dumps(seen.to_json(), separators=(",", ":")) for seen in found)]
    _replace(path, ("\n".join(lines) + "\n").encode())
