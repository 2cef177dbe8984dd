"""The end of a worker: when it must have ended, and what becomes of the jobs that run."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator

from jetq.worker.attempt import Attempt
from jetq.worker.attempts.lost import Lost
from jetq.worker.intake import Intake
from jetq.worker.process.ending import AFTER_GRACE, AT_ONCE, HardEnd
from jetq.worker.slots import WorkerSlots

__all__ = ["Stopping"]

_log = logging.getLogger("jetq.worker")

_UNWINDING = 8.0
"""Seconds that jobs have to end after they were cancelled at the end of the grace time."""

_UNWINDING_AT_ONCE = 0.7
"""Seconds that jobs have to end after a `kill`."""

_KEPT_FOR_THE_END = 1.5
"""Seconds of the time for the worker's end that are kept for settling, and for the last messages to the broker."""


class Stopping:
    """The requests to a worker to end, and the end of its attempts, which have `grace` seconds.

    hard: ends the worker's process with the worker, at the latest; None where the process goes on. stage: names the
    present step if that may hang, otherwise empty.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._ends_at = math.inf
        self.asked = asyncio.Event()
        self.killed = asyncio.Event()
        self.hard: HardEnd | None = None
        self.stage = ""

    def stop(self) -> None:
        """Have the worker end in order."""
        self._within(self._grace + AFTER_GRACE)
        self.asked.set()

    def kill(self) -> None:
        """Have the worker end now."""
        self._within(AT_ONCE)
        self.asked.set()
        self.killed.set()

    def _within(self, seconds: float) -> None:
        self._ends_at = min(self._ends_at, time.monotonic() + seconds)
        if self.hard is not None:
            self.hard.within(seconds)

    def left_for_lifespan(self) -> float:
        """Return how many seconds the end of the app's lifespan may take."""
        return max(self._ends_at - time.monotonic() - _KEPT_FOR_THE_END, 0.1)

    def left(self, attempts: Iterable[Attempt]) -> Iterator[str]:
        """Yield a line about each step or attempt of `attempts` that does not end, and what becomes of it when the
        process ends now. Thread-safe."""
        if self.stage:
            yield f"{self.stage} did not end in time, and is cut off"
        for attempt in attempts:
            yield f"{attempt.name} {attempt.delivery.id} is cut off: it runs again when its lease has ended"

    async def end_attempts(self, slots: WorkerSlots, intake: Intake, give_back: Callable[[Attempt], None]) -> None:
        """Let running jobs end, and give back the others. Return when nothing runs any more, or when the time is
        over."""
        attempts, idle = slots.attempts, slots.idle
        if attempts:
            _log.info("stopping: %d jobs have %g s to end", len(attempts), self._grace)
        await self._stop_feeds(intake)  # first: a job that a feed still brings is given back as it comes
        for attempt in attempts:
            if not attempt.started:
                attempt.release()
        for attempt in intake.drain():
            give_back(attempt)
        await self._wait(self._grace, idle, self.killed)
        if attempts:
            _log.warning("%d jobs did not end in time; they are cancelled, and given back as they end", len(attempts))
            for attempt in list(attempts):
                attempt.release()
            await self._wait(_UNWINDING, idle, self.killed)
            if self.killed.is_set():
                await self._wait(_UNWINDING_AT_ONCE, idle)

    async def give_up_rest(self, attempts: set[Attempt], lost: Lost) -> bool:
        """Settle the jobs that still run, or leave them to their leases where their code goes on. Return whether there
        were any.

        Call this last of all, because a job that is cut off with the process runs again a moment later.
        """
        rest = [attempt for attempt in attempts if attempt.started and attempt.interruptible]
        for attempt in attempts.difference(rest):
            told = "%s %s is not settled in time: it runs again when its lease has ended"
            _log.error(told, attempt.name, attempt.delivery.id)
        if self.hard is None:
            lost.leave(rest)
        else:
            # Each job is stored for a moment later, so that it does not wait for the end of its lease.
            await lost.cut_off(rest)
        return bool(rest)

    async def _stop_feeds(self, intake: Intake) -> None:
        results = await asyncio.gather(*(feed.stop() for feed in intake.feeds), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                _log.warning("a feed could not be stopped in order: %s", error)

    async def _wait(self, seconds: float, *events: asyncio.Event) -> None:
        """Wait for one of `events`, for `seconds` at most."""
        waiters = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()
