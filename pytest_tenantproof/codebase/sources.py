"""Source files, and what is found in them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_tenantproof.errors import ScanError

__all__ = ["CodeBase", "Found", "read_code"]

_SKIPPED = frozenset({".git", ".venv", "venv", "node_modules", "__pycache__", ".tox", "site-packages"})
_KNOWN = frozenset({".py", ".pyw", ".sql", ".sh", ".bash", ".js", ".mjs", ".cjs", ".ts", ".mts", ".tsx", ".jsx", ".rb"})


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong, and on which line of which file."""

    path: str
    line: int
    detail: str

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class CodeBase:
    """Text of source files by their path, with `/` between its parts."""

    files: Mapping[str, str]

    def beside(self, patterns: Iterable[str]) -> dict[str, str]:
        """Those that match none of the patterns."""
        listed = tuple(patterns)
        return {
            path: text for path, text in self.files.items() if not any(fnmatchcase(path, pattern) for pattern in listed)
        }


def read_code(root: Path, paths: Iterable[str]) -> CodeBase:
    """Source files at or below `paths`. Raises ScanError where one is missing, empty or unreadable."""
    files: dict[str, str] = {}
    for path in paths:
        found = [file for file in sorted(_below(root / path)) if file.suffix in _KNOWN]
        if not found:
            raise ScanError(
                f"{root / path} holds no source file, so nothing is known of it.",
                remedy="correct the paths in [tenantproof.guard].",
            )
        for file in found:
            name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()
            files[name] = _text(file)
    return CodeBase(files)


def _below(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [f for f in path.rglob("*") if f.is_file() and not _SKIPPED & set(f.relative_to(path).parts)]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(f"{file} cannot be read: {error}.", remedy="save it as UTF-8, and readable.") from None
