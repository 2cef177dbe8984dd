"""The ledger of a case: how often each job ran and when, in memory that the processes of the case share.

Two clock reads and three writes a job, the same for jetq and for the floor.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

__all__ = ["LEDGER", "Ledger", "end", "note", "now", "start", "use"]

LEDGER = "BENCH_LEDGER"
"""The environment variable that tells a worker process the ledger's file."""

_BYTES = 17
"""Of one job: two times of eight bytes, and how often it ran in one."""

now = time.perf_counter
"""Seconds. One clock for all processes of a machine (CLOCK_MONOTONIC on Linux)."""


class Ledger:
    """A file of jobs numbered from 0.

    starts, ends: when each last began and ended, in seconds of `now`. runs: how often each ended.
    """

    def __init__(self, file: Path, count: int | None = None) -> None:
        """Make it for `count` jobs; without, open one that another process made."""
        self.file = file
        if count is not None:
            with file.open("wb") as made:
                made.truncate(count * _BYTES)
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 0)
        self.count = len(self._map) // _BYTES
        whole = memoryview(self._map)
        self.starts = whole[: self.count * 8].cast("d")
        self.ends = whole[self.count * 8 : self.count * 16].cast("d")
        self.runs = whole[self.count * 16 :]

    @property
    def left(self) -> int:
        """Jobs that have not ended once."""
        return self.runs.tobytes().count(0)

    @property
    def wall(self) -> float:
        """Seconds from the first start to the last end."""
        return max(self.ends) - min(self.starts)

    @property
    def rate(self) -> float:
        """Jobs per second between those."""
        return self.count / self.wall

    @property
    def busy(self) -> float:
        """Seconds that jobs took, in all."""
        return sum(self.ends) - sum(self.starts)

    def check(self) -> None:
        """Raises AssertionError unless each job ran exactly once."""
        lost, doubled = self.left, self.count - self.left - self.runs.tobytes().count(1)
        assert not lost and not doubled, f"of {self.count:,} jobs {lost:,} are lost and {doubled:,} doubled"


_current: Ledger | None = None


def use(ledger: Ledger) -> None:
    """Let the jobs that run in this process write into `ledger`."""
    global _current
    _current = ledger


def _open() -> Ledger:
    """The ledger of this process; that of the environment if none was chosen."""
    if _current is None:
        use(Ledger(Path(os.environ[LEDGER])))
    assert _current is not None
    return _current


def start(number: int) -> None:
    """Job `number` begins."""
    (_current or _open()).starts[number] = now()


def end(number: int) -> None:
    """Job `number` has done its work."""
    ledger = _current or _open()
    ledger.ends[number] = now()
    ledger.runs[number] += 1


def note(number: int) -> None:
    """Job `number` begins and ends at once."""
    ledger = _current or _open()
    ledger.starts[number] = ledger.ends[number] = now()
    ledger.runs[number] += 1
