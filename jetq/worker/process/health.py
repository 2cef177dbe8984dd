"""The health of a worker: whether it lives and takes jobs, as the worker itself last reported."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["DEAD_AFTER", "REPORT_EVERY", "SILENT_AFTER", "Condition", "Health"]

REPORT_EVERY = 1.0
"""Seconds between two reports of a worker on its own health."""

SILENT_AFTER = 10.0
"""Seconds without a report after which a worker is not ready: its event loop is blocked."""

DEAD_AFTER = 60.0
"""Seconds without a report after which a worker does not live. A blocked loop loses no job, because a thread renews the
leases. So a task that blocks the loop for a while is no reason to kill the other jobs; a minute is longer than a task
blocks the loop by mistake."""


class Condition(Protocol):
    """The condition from which health questions are answered. Its methods are called in other threads."""

    def liveness_problem(self) -> str | None:
        """Return why the worker does not live, or None if it lives. An unreachable broker is no reason."""
        ...

    def readiness_problem(self) -> str | None:
        """Return why the worker takes no jobs, or None if it takes jobs."""
        ...


class Health:
    """The condition of one worker, as the worker itself reports it."""

    def __init__(self) -> None:
        # One value, because other threads read it.
        self._reported: tuple[float, str | None] = time.monotonic(), "starting"

    def report(self, not_ready_reason: str | None) -> None:
        """Report that the worker lives, and why it takes no jobs; None if it takes jobs. Call this every REPORT_EVERY
        seconds."""
        self._reported = time.monotonic(), not_ready_reason

    def liveness_problem(self) -> str | None:
        """Return why the worker does not live, or None: the worker has been silent for more than DEAD_AFTER seconds."""
        silent = time.monotonic() - self._reported[0]
        return _blocked(silent) if silent > DEAD_AFTER else None

    def readiness_problem(self) -> str | None:
        """Return why the worker takes no jobs, or None: it has been silent for more than SILENT_AFTER seconds, or
        reported a reason."""
        reported_at, reason = self._reported
        silent = time.monotonic() - reported_at
        return _blocked(silent) if silent > SILENT_AFTER else reason


def _blocked(silent: float) -> str:
    return f"the event loop has been blocked for {silent:.0f} s"
