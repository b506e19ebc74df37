"""The workers of a run: processes, or the calling process itself."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Protocol

import psycopg

from pytest_tenantproof.backup.copy import Copied, copy_unit
from pytest_tenantproof.backup.snapshot import join_snapshot
from pytest_tenantproof.backup.store import Store, StoreSpec
from pytest_tenantproof.backup.units import Job, Unit
from pytest_tenantproof.backup.worker import WorkerProcess
from pytest_tenantproof.errors import BackupError

__all__ = ["Crew"]


class _Copier(Protocol):
    def copy(self, unit: Unit) -> Copied: ...

    def kill(self) -> None: ...

    def close(self) -> None: ...


class _Here:
    """Copies in the calling process, through the run's own store."""

    def __init__(self, job: Job, store: Store) -> None:
        self._job, self._store = job, store
        self._connection: psycopg.Connection[Any] = join_snapshot(job.dsn, job.snapshot, dict(job.options))

    def copy(self, unit: Unit) -> Copied:
        return copy_unit(self._connection, self._store, self._job, unit)

    def kill(self) -> None:
        """A copy in this process ends with its own error."""

    def close(self) -> None:
        self._connection.close()


class Crew:
    """Started before the snapshot is taken, so that processes are ready when there is work."""

    def __init__(self, run: str, workers: int) -> None:
        self._processes = [WorkerProcess(run) for _ in range(workers)]
        self._here: list[_Here] = []

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for copier in self._copiers:
            copier.kill()
            copier.close()

    @property
    def _copiers(self) -> list[_Copier]:
        return [*self._processes, *self._here]

    def begin(self, job: Job, store: Store, spec: StoreSpec) -> None:
        """Tells what to do. Worker processes open their own store; without any, `store` is used."""
        for process in self._processes:
            process.begin(job, spec)
        if not self._processes:
            self._here.append(_Here(job, store))

    def copy_all(
        self, units: Sequence[Unit], *, seconds: float, aside: Callable[[], None], done: Callable[[int], None]
    ) -> list[Copied]:
        """Copies all units, and runs `aside` meanwhile. The first failure ends all workers and is raised.

        `seconds` bounds the whole: BackupError beyond it. `done` is told the size of each finished unit.
        """
        waiting, lock = deque(units), threading.Lock()

        def drain(copier: _Copier) -> list[Copied]:
            copied = []
            while waiting:
                try:
                    unit = waiting.popleft()
                except IndexError:
                    break
                copied.append(copier.copy(unit))
                with lock:
                    done(unit.size)
            return copied

        def beside() -> list[Copied]:
            aside()
            return []

        with ThreadPoolExecutor(len(self._copiers) + 1) as pool:
            try:
                futures = [pool.submit(beside), *(pool.submit(drain, copier) for copier in self._copiers)]
                return [c for future in as_completed(futures, seconds) for c in future.result()]
            except TimeoutError:
                raise BackupError(
                    f"it took longer than {seconds / 60:.0f} minutes.",
                    remedy="raise max_minutes, or find what slows it down.",
                ) from None
            finally:
                waiting.clear()
                for copier in self._copiers:
                    copier.kill()
