"""Whether a worker lives and takes jobs, as it last said itself."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["DEAD_AFTER", "REPORT_EVERY", "SILENT_AFTER", "Condition", "Health"]

REPORT_EVERY = 1.0
"""Seconds between two reports of a worker on itself."""

SILENT_AFTER = 10.0
"""Seconds without a report from which on a worker is not ready: its event loop is blocked."""

DEAD_AFTER = 60.0
"""Seconds without a report from which on it does not live. A blocked loop loses no job, because leases are renewed by a
thread, so a task that blocks it for a while is no reason to kill the others; a minute is longer than one does by
mistake."""


class Condition(Protocol):
    """What is answered from; called in other threads."""

    def liveness_problem(self) -> str | None:
        """Return why it does not live, or None. A broker that is away is no reason."""
        ...

    def readiness_problem(self) -> str | None:
        """Return why it takes no jobs, or None."""
        ...


class Health:
    """The condition of one worker, as it reports it itself."""

    def __init__(self) -> None:
        self._reported: tuple[float, str | None] = time.monotonic(), "starting"  # one value: other threads read it

    def report(self, not_ready_reason: str | None) -> None:
        """Say that the worker lives, and why it takes no jobs; None if it does. To be called every REPORT_EVERY."""
        self._reported = time.monotonic(), not_ready_reason

    def liveness_problem(self) -> str | None:
        """Return why it does not live: it has been silent for DEAD_AFTER."""
        silent = time.monotonic() - self._reported[0]
        return _blocked(silent) if silent > DEAD_AFTER else None

    def readiness_problem(self) -> str | None:
        """Return why it takes no jobs: it has been silent for SILENT_AFTER, or it said so."""
        reported_at, reason = self._reported
        silent = time.monotonic() - reported_at
        return _blocked(silent) if silent > SILENT_AFTER else reason


def _blocked(silent: float) -> str:
    return f"the event loop has been blocked for {silent:.0f} s"
