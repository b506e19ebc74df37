"""What every verb is made of."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_tenantproof.config import Settings, find_config, load_settings

__all__ = ["Answer", "Verb", "settings_of", "target_arguments"]

Answer = tuple[int, dict[str, Any], list[str]]
"""Exit status, the answer for --json, and the lines for people."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: what --help says, its arguments, and what it does."""

    help: str
    example: str
    run: Callable[[argparse.Namespace], Answer]
    arguments: Callable[[argparse.ArgumentParser], None]


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that --config names, or the nearest ones. Raises ConfigError."""
    named = getattr(options, "config", None)
    return load_settings(Path(named) if named else find_config(Path.cwd()))


def target_arguments(parser: argparse.ArgumentParser) -> None:
    """--target and --config."""
    parser.add_argument("--target", required=True, metavar="T", help="a target of tenantproof.toml")
    parser.add_argument("--config", metavar="FILE", help="another tenantproof.toml")
