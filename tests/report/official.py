"""Official schemas, fetched from the package registries once and kept in .tools/ (they are not ours to copy)."""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from tests.support import REPOSITORY, lacks

_TOOLS = REPOSITORY / ".tools" / "schemas"
_SARIF = "@microsoft/jest-sarif@1.0.0-beta.0"
_SARIF_SHA256 = "2d99159ae54a3eea97f81781cff48780548657c35949f4b7f25e99a2ba4de4f8"
_OSCAL = "compliance-trestle==5.2.0"


def sarif_schema() -> dict[str, Any]:
    """The schema of SARIF 2.1.0 (OASIS). Skips where npm is absent."""
    file = _TOOLS / "sarif-2.1.0.json"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            lacks("node", "npm is absent, and the SARIF schema comes in an npm package")
        _TOOLS.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([npm, "pack", "--silent", _SARIF], cwd=_TOOLS, check=True, capture_output=True, text=True)
        with tarfile.open(_TOOLS / done.stdout.split()[-1]) as package:
            member = package.extractfile("package/lib/schemas/sarif-2.1.0-rtm.5.json")
            assert member is not None
            file.write_bytes(member.read())
    data = file.read_bytes()
    assert hashlib.sha256(data).hexdigest() == _SARIF_SHA256, f"{file} is not the schema that was agreed on; remove it"
    found: dict[str, Any] = json.loads(data)
    return found


def oscal_python() -> Path:
    """A Python of its own with the OSCAL 1.2.1 models, generated from NIST's schema; it needs many packages."""
    folder = _TOOLS.parent / "oscal"
    python = folder / "bin" / "python"
    if not (folder / ".done").exists():
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--clear", str(folder)], check=True, capture_output=True)
        subprocess.run([*uv, "pip", "install", "--python", str(python), _OSCAL], check=True, capture_output=True)
        (folder / ".done").touch()
    return python
