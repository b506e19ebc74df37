"""The controls: test_*.py, one theme a file. `catalogue()` is the locked list a run is reconciled with."""

import hashlib
import importlib
import json
from collections import Counter
from functools import cache
from importlib import util
from pathlib import Path
from types import ModuleType

from pytest_tenantproof.config import Settings
from pytest_tenantproof.control import control_of
from pytest_tenantproof.errors import UsageError
from pytest_tenantproof.model import Control, Fault

__all__ = [
    "astray",
    "catalogue",
    "catalogue_digest",
    "files",
    "lock_file",
    "locked",
    "of_module",
    "own",
    "own_files",
    "unique",
]


def files() -> tuple[Path, ...]:
    """The shipped control files, in a fixed order."""
    return tuple(sorted(Path(__file__).parent.glob("test_*.py")))


def of_module(module: ModuleType) -> tuple[Control, ...]:
    return tuple(found for item in vars(module).values() if (found := control_of(item)))


@cache
def _shipped() -> tuple[Control, ...]:
    modules = (importlib.import_module(f"{__name__}.{file.stem}") for file in files())
    return tuple(found for module in modules for found in of_module(module))


@cache
def catalogue() -> tuple[Control, ...]:
    """Every shipped control, by id; of two that share one the first, and then that id is `astray`."""
    by_id = {found.id: found for found in reversed(_shipped())}
    return tuple(by_id[id_] for id_ in sorted(by_id))


def locked(controls: tuple[Control, ...]) -> str:
    """What catalogue.lock holds of them: a line each with id, severity and title."""
    return "".join(f"{c.id} {c.severity} {c.title}\n" for c in controls)


def lock_file() -> Path:
    return Path(__file__).with_name("catalogue.lock")


@cache
def astray() -> tuple[str, ...]:
    """Ids of shipped controls that are not as in catalogue.lock: absent, added, renamed or declared twice. A lost file
    must not make the whole smaller, nor a copy answer for the control that it took the id of."""
    text = lock_file().read_text("utf-8") if lock_file().is_file() else ""
    held, found = (dict(line.split(" ", 1) for line in t.splitlines()) for t in (text, locked(catalogue())))
    times = Counter(id_ for id_, _ in {(found.id, found.source) for found in _shipped()})
    return tuple(sorted(i for i in held.keys() | found.keys() if held.get(i) != found.get(i) or times[i] > 1))


def own_files(settings: Settings) -> tuple[Path, ...]:
    """The user's own control files. Raises UsageError for a pattern that matches none."""
    paths: list[Path] = []
    for pattern in settings.controls:
        found = sorted(settings.root.glob(pattern))
        if not found:
            raise UsageError(
                f"controls = {pattern!r} in {settings.source} matches no file.",
                remedy="correct the pattern; it is relative to the config file.",
            )
        paths += found
    return tuple(paths)


def own(settings: Settings) -> tuple[Control, ...]:
    """The user's own controls. Raises UsageError for a file that cannot be imported or declares none."""
    return tuple(found for path in own_files(settings) for found in _load(path))


def _load(path: Path) -> tuple[Control, ...]:
    spec = util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file.", remedy="correct controls in [tenantproof].")
    module = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(
            f"{path} cannot be imported: {type(error).__name__}: {error}.", remedy="mend the file."
        ) from error
    found = of_module(module)
    if not found:
        raise UsageError(f"{path} declares no control.", remedy="decorate a test in it with @control.")
    return found


def unique(controls: tuple[Control, ...]) -> tuple[Control, ...]:
    """The controls by id. Raises UsageError when two share one."""
    by_id: dict[str, Control] = {}
    for found in controls:
        if by_id.setdefault(found.id, found).source != found.source:
            raise UsageError(
                f"control id {found.id} is declared twice: {by_id[found.id].source} and {found.source}.",
                remedy="give one of them an id of its own; ids are never reused.",
            )
    return tuple(by_id[id_] for id_ in sorted(by_id))


def _fault(fault: Fault) -> list[str]:
    """What of a fault is the same in every process: values that are objects are named, not spelled out."""
    return [fault.sql, *fault.also, *(f"settings.{name}" for name in fault.settings), *sorted(fault.given)]


def catalogue_digest(controls: tuple[Control, ...]) -> str:
    """sha256 over what each control claims: id, title, severity, requirement, mapping, faults."""
    claims = [[c.id, c.title, c.severity, c.requirement, c.maps, [_fault(f) for f in c.faults]] for c in controls]
    return hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).hexdigest()
