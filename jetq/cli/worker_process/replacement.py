"""When a worker process is replaced by a new one: after a number of jobs, or above an amount of memory."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable

from jetq.cli.exit import Failed

__all__ = ["memory_bound", "resident_memory", "with_jitter"]

_MIB = 1024**2


def with_jitter(max_jobs: int | None) -> int | None:
    """Return `max_jobs` plus up to a tenth, so that processes that started together are not replaced together."""
    return None if max_jobs is None else max_jobs + random.randint(0, max_jobs // 10)


def memory_bound(mebibytes: int | None) -> Callable[[], bool]:
    """Return a function that says whether this process has more than `mebibytes` MiB resident.

    Raises Failed if the process has more before its first job.
    """
    if mebibytes is None:
        return lambda: False
    limit = mebibytes * _MIB
    if resident_memory() > limit:
        raise Failed(
            f"the worker takes {resident_memory() // _MIB} MiB before its first job, more than --max-memory",
            hint="it would be replaced after each job; allow more",
        )
    return lambda: resident_memory() > limit


def resident_memory() -> int:
    """Return how many bytes of this process are resident; without /proc, the most that ever were."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere
