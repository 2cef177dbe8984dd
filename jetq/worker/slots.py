"""The slots of a worker: which attempts it has, and how many more jobs it may start now."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from jetq.worker.attempts.attempt import Attempt

__all__ = ["WorkerSlots"]


class WorkerSlots:
    """The attempts of one worker that are started or about to be, and the slots that are free beside them.

    concurrency: how many jobs run at once. max_jobs: how many are taken in all, None for any number. slotless: called
    for how many of the attempts hold no slot, beyond the suspects, which are counted here.

    `idle` is set while there are no attempts, `exhausted` once `max_jobs` were taken.
    """

    def __init__(self, concurrency: int, max_jobs: int | None, slotless: Callable[[], int]) -> None:
        self._concurrency = self._open = concurrency
        self._jobs_left = sys.maxsize if max_jobs is None else max_jobs
        self._slotless = slotless
        self._suspects = 0
        self.exhausted = False
        self.attempts: set[Attempt] = set()
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def closed(self) -> bool:
        """Whether no job may be started for now, because a suspect is to run alone."""
        return self._open < 0

    def take(self, attempt: Attempt) -> None:
        """Count `attempt` from now on. A tick, or a job that is only given back, is none of `max_jobs`."""
        if not self.attempts:
            self.idle.clear()
        self.attempts.add(attempt)
        delivery = attempt.delivery
        if not (delivery.schedule or attempt.ending == "release"):
            self._jobs_left -= 1
            self.exhausted = self._jobs_left <= 0
        if delivery.count > 1:
            self._suspects += 1

    def give(self, attempt: Attempt) -> None:
        """Count `attempt` no more: it is settled, or left to its lease."""
        self.attempts.discard(attempt)
        if not self.attempts:
            self.idle.set()
        if attempt.delivery.count > 1:
            self._suspects -= 1

    def free(self) -> int:
        """Return how many more jobs may be started now; not above 0 if none."""
        room, left = self.room(), self._jobs_left
        return room if room < left else left

    def room(self) -> int:
        """Return the same regardless of `max_jobs`: how many of the jobs that are held here already may go on."""
        room = self._open - len(self.attempts) + self._slotless()
        if self._suspects < 2:
            return room
        # Suspects wait for one another and would idle the slots they hold, so up to `concurrency` of them hold none.
        return room + min(self._suspects - 1, self._concurrency)

    def admit(self, others: bool) -> None:
        """Open the slots to other jobs again, or close them to all for now."""
        # Closed, they stay so whatever is counted as slotless.
        self._open = self._concurrency if others else -sys.maxsize
