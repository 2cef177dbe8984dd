"""Attempts whose code does not end. Such an attempt is settled while its code goes on, and the job never runs again
beside that code in the same worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from jetq.encoding.headers import meta_or_default
from jetq.model.job import Delivery
from jetq.model.outcome import Cancelled, Outcome, Snoozed, dead
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.executor import Executor
from jetq.worker.leases import Leases

__all__ = ["Lost"]

_log = logging.getLogger("jetq.worker")

_AGAIN_AFTER = 10.0
"""Seconds after which a job comes back that was handed out again while its code still goes on in this worker."""

_AFTER_THE_END = 5.0
"""Seconds after which a job runs again whose code is cut off with the process: by then the process is surely gone."""


class Lost:
    """The attempts of one worker that were given up. ended: called with each attempt that is settled, or left to its
    lease.

    `attempts` are the attempts whose code still goes on.
    """

    def __init__(self, executor: Executor, leases: Leases, *, ended: Callable[[Attempt], None]) -> None:
        self._executor = executor
        self._leases = leases
        self._ended = ended
        self.attempts: set[Attempt] = set()
        self._settling: set[asyncio.Task[None]] = set()

    def __contains__(self, delivery: Delivery) -> bool:
        """Return whether code of the job of `delivery` goes on in this worker."""
        return any(attempt.delivery.same_job(delivery) for attempt in self.attempts)

    def give_up(self, attempt: Attempt) -> None:
        """Free the slot of an attempt that ignores its timeout or cancellation, and settle the attempt as a lost thread
        is settled.

        Guarantee: tests/integration/attempts/test_lost_attempts.py: it is dead once, and its slot is free.
        """
        _log.error(
            "%s %s ignores its cancellation and is given up; its code may go on in this worker",
            attempt.name, attempt.delivery.id,
        )  # fmt: skip
        message = f"{attempt.name} did not end when it was cancelled at its timeout"
        outcome = Cancelled() if attempt.cancelled else dead("timeout", "jetq.TaskLost", message)
        self._settle_soon(attempt, outcome, goes_on=True)

    def over(self, attempt: Attempt) -> None:
        """Note that the code of `attempt` has ended after all."""
        _log.warning("%s %s has ended at last, after it was given up", attempt.name, attempt.delivery.id)
        self.attempts.discard(attempt)

    async def put_off(self, attempt: Attempt) -> None:
        """Let a job come later that was delivered again while its code still goes on in this worker."""
        attempt.meta = meta_or_default(attempt.delivery.headers)
        await self._executor.settle(attempt, Snoozed(after=_AGAIN_AFTER, meta=attempt.meta))

    async def cut_off(self, attempts: Iterable[Attempt]) -> None:
        """Let the jobs of `attempts` run again after the process has ended, at no charge. The process ends in a moment,
        and their code with it."""
        for attempt in attempts:
            _log.error(
                "%s %s does not end: it is cut off with this process, and runs again in %g s",
                attempt.name, attempt.delivery.id, _AFTER_THE_END,
            )  # fmt: skip
            self._settle_soon(attempt, Snoozed(after=_AFTER_THE_END, meta=attempt.meta), goes_on=False)
        if self._settling:
            # Waited for, because the process ends after this: a job that is not settled by then waits for its lease.
            await asyncio.wait(self._settling)

    def leave(self, attempts: Iterable[Attempt]) -> None:
        """Leave `attempts` to their leases: the worker ends but not its process, and their code goes on."""
        for attempt in attempts:
            _log.error(
                "%s %s does not end: its code goes on in this process, and it runs again elsewhere when its lease ends",
                attempt.name, attempt.delivery.id,
            )  # fmt: skip
            self._take(attempt)
            self._leases.drop(attempt.delivery)
            self._ended(attempt)

    def _take(self, attempt: Attempt) -> None:
        attempt.given_up = True
        attempt.interruptible = False
        self.attempts.add(attempt)

    def _settle_soon(self, attempt: Attempt, outcome: Outcome, *, goes_on: bool) -> None:
        self._take(attempt)
        settling = asyncio.create_task(self._settle(attempt, outcome, goes_on), name="jetq-give-up")
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)

    async def _settle(self, attempt: Attempt, outcome: Outcome, goes_on: bool) -> None:
        try:
            await self._executor.settle_given_up(attempt, outcome, goes_on=goes_on)
        except Exception:  # a fault of jetq's own: the job is not settled, and comes back when its lease lapses
            _log.exception("%s %s could not be settled", attempt.name, attempt.delivery.id)
            self._leases.drop(attempt.delivery)
        finally:
            self._ended(attempt)
