"""A process that copies units: `python -m pytest_tenantproof.backup.worker`, one JSON message a line.

It is told its job and its units on standard input, so no secret shows in a process list, and it ends when
that closes: a leader that is killed takes its workers with it.
"""

import gc
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, fields
from operator import attrgetter
from typing import IO, Any

from pytest_tenantproof.backup.copy import Copied, copy_unit
from pytest_tenantproof.backup.events import BackupFailed, failure
from pytest_tenantproof.backup.manifest import PackObject, Segment
from pytest_tenantproof.backup.plan import PlannedTable
from pytest_tenantproof.backup.snapshot import join_snapshot
from pytest_tenantproof.backup.store import StoreSpec, open_store
from pytest_tenantproof.backup.units import Job, Share, Unit

__all__ = ["WorkerProcess", "main"]

_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TOP_PAD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
"""Memory that was used once stays with the process (glibc, mallopt(3); others don't know these)."""
_FIELDS = attrgetter(*(field.name for field in fields(Segment)))


class WorkerProcess:
    """The leader's end of a worker. Use it from one thread."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest_tenantproof.backup.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_MEMORY | os.environ,
        )

    def begin(self, job: Job, store: StoreSpec) -> None:
        self._tell({"job": asdict(job), "store": asdict(store)})

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None

    def _lost(self) -> BackupFailed:
        status = self._process.wait()
        return BackupFailed(
            "backup",
            self._run,
            f"a worker process ended with status {status}.",
            remedy="check memory limits and that nothing kills it; run again.",
        )

    def copy(self, unit: Unit) -> Copied:
        """Raises BackupFailed with the worker's own message, or when the worker is gone."""
        shares = [(share.tenant, share.key, list(share.rows.items())) for share in unit.shares]
        self._tell({"object": unit.object, "shares": shares, "size": unit.size})
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._lost()
        answer = json.loads(line)
        if error := answer.get("error"):
            raise BackupFailed(error["stage"], self._run, error["message"], remedy=error["remedy"])
        segments = tuple((tenant, Segment(*fields)) for tenant, fields in answer["segments"])
        return Copied(PackObject(*answer["pack"]), segments)

    def kill(self) -> None:
        """Ends it at once. May be called from any thread."""
        self._process.kill()

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue
        self._process.wait()


def _job(data: dict[str, Any]) -> Job:
    tables = tuple(PlannedTable(**{**t, "columns": tuple(t["columns"])}) for t in data["tables"])
    return Job(**{**data, "tables": tables})


def _unit(data: dict[str, Any]) -> Unit:
    shares = tuple(Share(tenant, key, dict(rows)) for tenant, key, rows in data["shares"])
    return Unit(data["object"], shares, data["size"])


def _messages(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Messages as they come. When the leader is gone, the process ends there and then, whatever it does."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in stream:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield json.loads(lines.get())


def main() -> None:
    # Millions of rows come and go and none refers to another; looking for cycles among them takes a tenth of the time.
    gc.disable()
    messages = _messages(sys.stdin.buffer)
    setup = next(messages)
    job = _job(setup["job"])
    connection, kept = None, list[bytes]()
    store = open_store(StoreSpec(**setup["store"]))
    for message in messages:
        unit = _unit(message)
        try:
            connection = connection or join_snapshot(job.dsn, job.snapshot, dict(job.options))
            copied = copy_unit(connection, store, job, unit, kept)
            pack = copied.pack
            answer: dict[str, Any] = {
                "pack": [pack.name, pack.size, pack.sha256, pack.version],
                "segments": [[tenant, _FIELDS(segment)] for tenant, segment in copied.segments],
            }
        except Exception as error:  # noqa: BLE001 - whatever it is, the leader reports it with its stage
            failed = failure(error, job.run, unit.object)
            answer = {"error": {"stage": failed.stage, "message": failed.detail, "remedy": failed.remedy}}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
