"""Write down what happens to tasks in a file, and read what other processes write there."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from jetq import current_job

__all__ = ["digest", "note", "whole_lines"]


def digest(data: str) -> str:
    """What stands for large data in the ledger."""
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def note(event: str, n: int) -> None:
    """One line in one write: appends of this size do not mix, also between processes."""
    job = current_job()
    # Not `time.time`, which is another in a worker whose machine's clock is off.
    line = f"{event} {n} {job.attempt} {os.getpid()} {time.clock_gettime(time.CLOCK_REALTIME):.6f} {job.id}\n"
    ledger = os.open(os.environ["JETQ_TEST_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)


def whole_lines(path: Path) -> list[str]:
    """Return the lines of `path` that are written to their end.

    Linux shows a reader half of a write that crosses a page of the file, so the last line may be half a line.
    """
    return path.read_text().rpartition("\n")[0].splitlines()
