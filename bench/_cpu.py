"""CPU time, which a busy machine distorts less than the clock."""

import time
from pathlib import Path

__all__ = ["cpu"]


def cpu(pid: int) -> float:
    """CPU seconds of this thread and of the server's process; the first alone where the machine does not tell."""
    told = Path(f"/proc/{pid}/schedstat")
    server = int(told.read_text().split()[0]) / 1e9 if told.exists() else 0.0
    return time.thread_time() + server
