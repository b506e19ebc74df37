"""Writes docs/controls/ and catalogue.lock: `python -m pytest_tenantproof.controls.docs docs/controls`."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_tenantproof import controls
from pytest_tenantproof.control import FAMILIES
from pytest_tenantproof.model import Control, Fault

__all__ = ["main", "pages"]

_HEAD = "<!-- Written by `make docs` from the code; a test keeps it in step. -->\n"


def pages() -> Mapping[str, str]:
    """File name -> Markdown: an index, and a page for each family that has controls."""
    by_family: dict[str, list[Control]] = {}
    for control in controls.catalogue():
        by_family.setdefault(next(c for c in control.id if c.isdigit()), []).append(control)
    made = {"README.md": _index(by_family)}
    for digit, found in by_family.items():
        body = "\n".join(map(_section, found))
        made[f"{digit}xx.md"] = f"{_HEAD}\n# {digit}xx {FAMILIES[digit][1]}\n\n{body}"
    return made


def _index(by_family: Mapping[str, list[Control]]) -> str:
    rows = [
        f"| [{c.id}]({digit}xx.md#{c.id.lower()}) | {c.title} | {c.severity} | {c.requirement} |"
        for digit, found in by_family.items()
        for c in found
    ]
    count = sum(map(len, by_family.values()))
    head = f"{_HEAD}\n# Controls\n\n{count} controls. Ids never change meaning and are never reused.\n\n"
    return (
        f"{head}| control | what it proves | severity | requirement |\n| --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


def _section(control: Control) -> str:
    maps = control.maps or {}
    clauses = "; ".join(f"{name} {', '.join(found)}" for name, found in maps.items()) or "no clause of a framework"
    marks = ", ".join(f"`{mark}`" for mark in control.markers)
    lines = [
        f"## {control.id}",
        "",
        f"**{control.title}.** Severity {control.severity}, requirement {control.requirement}, markers {marks}.",
        "",
        control.doc,
        "",
        f"Maps to: {clauses}.",
        "",
        *_faults(control.faults),
    ]
    return "\n".join(lines)


def _faults(faults: tuple[Fault, ...]) -> Iterator[str]:
    yield "Turned red by:" if faults else "No fault is declared."
    yield ""
    for fault in faults:
        if fault.sql:
            yield "```sql"
            yield fault.sql
            yield "```"
        else:
            changed = ", ".join(f"`{name}`" for name in (*fault.settings, *fault.given))
            yield f"- another value of {changed}"
    yield ""


def main() -> None:
    """Writes the pages and removes those of families that are gone."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for stale in set(folder.glob("*.md")) - {folder / name for name in made}:
        stale.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    controls.lock_file().write_text(controls.locked(controls.catalogue()), encoding="utf-8")


if __name__ == "__main__":
    main()
