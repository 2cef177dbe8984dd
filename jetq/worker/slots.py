"""The slots of a worker: the attempts that the worker has, and how many more jobs it may start now."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from jetq.worker.attempt import Attempt

__all__ = ["WorkerSlots"]


class WorkerSlots:
    """The attempts of one worker that are started or about to be, and the slots that are free beside them.

    concurrency: how many jobs run at once. max_jobs: how many jobs are taken in all, None for any number. slotless:
    returns how many of the attempts hold no slot, without the suspects, which are counted in this class.

    `idle` is set while there are no attempts, `exhausted` is True once `max_jobs` jobs were taken.
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
        """Count `attempt` from now on. A tick, or a job that is only given back, does not count towards `max_jobs`."""
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
        """Count `attempt` no more: the attempt is settled, or left to its lease."""
        self.attempts.discard(attempt)
        if not self.attempts:
            self.idle.set()
        if attempt.delivery.count > 1:
            self._suspects -= 1

    def free(self) -> int:
        """Return how many more jobs may be started now; 0 or less means none."""
        room, left = self.room(), self._jobs_left
        return room if room < left else left

    def room(self) -> int:
        """Return how many of the jobs that this worker holds already may go on, regardless of `max_jobs`; 0 or less
        means none."""
        room = self._open - len(self.attempts) + self._slotless()
        if self._suspects < 2:
            return room
        # Suspects wait for one another and would leave the slots they hold unused, so up to `concurrency` suspects hold
        # no slot.
        return room + min(self._suspects - 1, self._concurrency)

    def admit(self, others: bool) -> None:
        """Open the slots to `others` again, or close the slots to all jobs for now."""
        # Closed slots stay closed, however many attempts count as slotless.
        self._open = self._concurrency if others else -sys.maxsize
