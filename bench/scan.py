"""How fast a front end of 30 MB and more is scanned, against reading and hashing it, and against detect-secrets.

    python -m bench.scan [--megabytes 32]

The bundle is made of the checked-in Vite output: scripts, source maps, and compressed copies, each file another.
"""

import argparse
import gzip
import hashlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import brotli

from pytest_tenantproof.config import Settings
from pytest_tenantproof.scan import known_of, scan

BUNDLE = Path(__file__).parents[1] / "tests" / "fixtures" / "bundles" / "clean" / "assets"


def build(folder: Path, megabytes: int) -> int:
    """Writes files until their unpacked content is large enough; gives its size."""
    size = number = 0
    sources = sorted(file for file in BUNDLE.iterdir() if file.suffix in (".js", ".map", ".css"))
    while size < megabytes << 20:
        for source in sources:
            content = _another(source.read_bytes(), number)
            path = folder / f"{number}-{source.name}"
            if number % 8 == 3:
                path.with_suffix(f"{path.suffix}.gz").write_bytes(gzip.compress(content, 1))
            elif number % 8 == 6:
                path.with_suffix(f"{path.suffix}.br").write_bytes(brotli.compress(content, quality=1))
            else:
                path.write_bytes(content)
            size, number = size + len(content), number + 1
    return size


def _another(content: bytes, number: int) -> bytes:
    """The same file with another order of its statements, or another number in its map."""
    if content.startswith(b"{"):
        return content.replace(b'"version":3', b'"version":3,"x_build":%d' % number, 1)
    lines = content.split(b";")
    turn = number * 7 % len(lines)
    return b";".join((*lines[turn:], *lines[:turn], b"/* %d */" % number))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=32)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        size = build(folder, parser.parse_args().megabytes)
        begun = time.perf_counter()
        for file in folder.iterdir():
            hashlib.sha256(file.read_bytes()).digest()
        read = time.perf_counter() - begun
        begun, busy = time.perf_counter(), time.process_time()
        found = scan([folder], known_of(Settings(), {"SUPABASE_DB_PASSWORD": "cobalt-heron-93"}))
        ours, busy = time.perf_counter() - begun, time.process_time() - busy
        print(f"{found.files} files, {size / 1e6:.0f} MB unpacked, {len(found.leaks)} findings: {ours:.2f} s")
        print(f"{busy:.2f} s of that on the processor")
        print(f"{ours / read:.0f} x reading and hashing the files as they lie there ({read:.2f} s)")
        if tool := shutil.which("detect-secrets"):
            begun = time.perf_counter()
            subprocess.run([tool, "scan", "--all-files", str(folder)], check=True, stdout=subprocess.DEVNULL)
            print(f"detect-secrets, which unpacks nothing, takes {(time.perf_counter() - begun) / ours:.1f} x as long")
        else:
            print("note: detect-secrets is left out, it is not installed")


if __name__ == "__main__":
    main()
