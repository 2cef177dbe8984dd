"""How tasks write down what happens to them."""

from __future__ import annotations

import hashlib
import os
import time

from jetq import current_job

__all__ = ["digest", "note"]


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
