"""Whether a worker lives and takes jobs, as it last said itself."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["DEAD_AFTER", "SILENT_AFTER", "TELL_EVERY", "Condition", "Health"]

TELL_EVERY = 1.0
"""Seconds between two words of a worker on itself."""

SILENT_AFTER = 10.0
"""Seconds without a word from which on a worker is not ready: its event loop is blocked."""

DEAD_AFTER = 60.0
"""Seconds without a word from which on it does not live. A blocked loop loses no job, because leases are renewed by a
thread, so a task that blocks it for a while is no reason to kill the others; a minute is longer than one does by
mistake."""


class Condition(Protocol):
    """What is answered from; called in other threads."""

    def dead(self) -> str | None:
        """Why it does not live; None if it does. A broker that is away is no reason."""
        ...

    def unready(self) -> str | None:
        """Why it takes no jobs; None if it does."""
        ...


class Health:
    """The condition of one worker, which tells it itself."""

    def __init__(self) -> None:
        self._told: tuple[float, str | None] = time.monotonic(), "starting"

    def tell(self, trouble: str | None) -> None:
        """It lives, and takes no jobs because of `trouble`; None if it does. To be called every TELL_EVERY."""
        self._told = time.monotonic(), trouble

    def dead(self) -> str | None:
        silent = time.monotonic() - self._told[0]
        return f"the event loop has been blocked for {silent:.0f} s" if silent > DEAD_AFTER else None

    def unready(self) -> str | None:
        told_at, trouble = self._told
        silent = time.monotonic() - told_at
        return f"the event loop has been blocked for {silent:.0f} s" if silent > SILENT_AFTER else trouble
