"""What reaches a worker from outside while it runs: which jobs are cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from jetq.attempt import Attempt
from jetq.broker import Broker

__all__ = ["INSIST_AFTER", "Control"]

INSIST_AFTER = 10.0
"""Seconds after which a task that ignores its cancellation is cancelled again, and reported."""

_REMEMBERED = 120.0
"""Seconds for which a cancelled id is remembered: longer than the broker keeps it on record."""


class Control:
    """The ear of one worker. `held` are the attempts it has, started or about to be."""

    def __init__(self, held: Callable[[], Iterable[Attempt]]) -> None:
        self._held = held
        self._cancelled: dict[str, float] = {}

    async def listen(self, broker: Broker, queue: str) -> None:
        """Hear of `queue` what is said from now on, and what stands already."""
        await broker.watch_cancelled(queue, self._on_mark)

    def is_cancelled(self, id: str) -> bool:
        """Whether job `id` is not to be started."""
        return id in self._cancelled

    def forget(self, now: float) -> None:
        """Drop what is too old to matter. `now` is `time.monotonic()`."""
        while self._cancelled:
            id = next(iter(self._cancelled))
            if self._cancelled[id] > now - _REMEMBERED:
                return
            del self._cancelled[id]

    def _on_mark(self, id: str, cancelled: bool) -> None:
        self._cancelled.pop(id, None)
        if not cancelled:
            return
        now = time.monotonic()
        self._cancelled[id] = now  # at the end, as the newest
        for attempt in self._held():
            if attempt.delivery.id == id and not attempt.cancelled:
                attempt.cancel()
                attempt.deadline = now + INSIST_AFTER
