"""Suspects: jobs that may have killed their worker. Each start of a suspect is put on record before the start."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from jetq.broker.consuming import Consuming
from jetq.errors import BrokerError
from jetq.model.job import Delivery
from jetq.model.outcome import Outcome, Superseded
from jetq.runtime.backoff import backoff
from jetq.worker.attempt import Attempt, outcome_without_run
from jetq.worker.policy import crashed

__all__ = ["Suspects"]

_log = logging.getLogger("jetq.worker")

_LOOK = 0.02
"""Seconds between looks whether the other jobs have ended."""

_PATIENCE = 30.0
"""Seconds for which no other job is begun, so that a last start may run alone. After that, other jobs are begun for the
same time, and the next try lasts twice as long. So jobs of any length end within some try, and half of the worker goes
on."""

_LONGEST_REST = 5.0
"""The most seconds for which other jobs are let in between two jobs that run alone. Within this bound, the other jobs
are let in for as long as they were kept out."""

_LONGEST_TURN = 300.0
"""Seconds after which a suspect has run long enough for other jobs to run beside it: the same as the default timeout of
a job."""

_FIRST_BACKOFF, _LAST_BACKOFF = 0.5, 5.0
"""Seconds before the number of starts is written again after a failure: the first time, and the most."""


class Suspects:
    """The turns of a worker's suspects: one suspect at a time, with its start on record, and alone in the process if
    that start is its last.

    A record becomes a charge when the worker dies. So a start is on record only while code of the job may run. Where
    the next charge would be one too many, no other user code runs in this process meanwhile, so that the job is charged
    for no other job.

    valid: returns whether a delivery still belongs to this worker. held: returns the worker's attempts. admit: lets the
    worker begin other jobs, or none for now.

    Guarantee: tests/unit/properties/test_suspects.py: whatever dies when, who does not kill its worker is never dead
    for it, and who does is after no more than `max_crashes` starts.
    """

    def __init__(
        self,
        broker: Consuming,
        *,
        valid: Callable[[Delivery], bool],
        held: Callable[[], Iterable[Attempt]],
        admit: Callable[[bool], None],
    ) -> None:
        self._broker = broker
        self._valid = valid
        self._held = held
        self._admit = admit
        self._turn = asyncio.Lock()
        self._waiting: set[Attempt] = set()
        self._recorded: dict[Attempt, int] = {}
        self._current: Attempt | None = None
        self._alone_since: float | None = None
        self._rest_until = 0.0
        self._watch: asyncio.Task[None] | None = None

    async def begin(self, attempt: Attempt) -> Outcome | None:
        """Wait for the turn of `attempt`, and put its start on record. Return None when it may run, or an outcome if it
        must not run.

        Call `end` in any case. Raises BrokerError; then the attempt must not run either.
        """
        patience = _PATIENCE
        while True:
            if not await self._wait(attempt, self._turn.acquire()):
                return outcome_without_run(attempt.ending)
            self._current = attempt
            outcome, starts = await self._examine(attempt)
            if outcome is not None or not self._is_last(attempt, starts):
                break
            if not await self._wait(attempt, self._clear(attempt, patience)):
                return outcome_without_run(attempt.ending)
            if self._alone_since is not None:
                break
            self._pass_on(attempt)
            if not await self._wait(attempt, asyncio.sleep(patience)):
                return outcome_without_run(attempt.ending)
            patience *= 2
        if outcome is not None:
            return outcome
        # On record before any code of the job runs: written later, a start that kills the worker would not be counted,
        # and the job would go round.
        if not await self._write(attempt, starts + 1):
            return outcome_without_run(attempt.ending)
        self._recorded[attempt] = starts
        self._watch = asyncio.create_task(self._watch_over(attempt, starts), name="jetq-suspect")
        return None

    async def interrupt(self, attempt: Attempt) -> Outcome | None:
        """Take the start of `attempt` off the record and pass its turn on. No code of the job runs before the next
        `begin`. Return an outcome if the attempt must not go on, else None.

        Raises BrokerError as `begin` does.
        """
        # Taken off the record before the turn of another suspect: the other suspect may kill the worker, and this job
        # would be charged for it.
        written = await self._write(attempt, self._recorded.pop(attempt))
        self._pass_on(attempt)
        return None if written else outcome_without_run(attempt.ending)

    async def acquit(self, attempt: Attempt) -> None:
        """Erase the starts of `attempt` from the record, because it has ended and is settled. Raises nothing."""
        if attempt not in self._recorded:
            return
        try:
            await self._broker.erase_starts(attempt.delivery)
        except BrokerError as error:  # the record names a message that is gone, and expires
            _log.debug("starts of %s stay on record: %s", attempt.delivery.id, error.message)

    async def is_superseded(self, attempt: Attempt) -> bool:
        """Return whether the attempt's job has been settled by another delivery. Raises BrokerError."""
        return await self._broker.is_superseded(attempt.delivery)

    def end(self, attempt: Attempt) -> None:
        """Give up the turn of `attempt`. Call this only after its outcome is stored, because other jobs may begin
        then."""
        self._recorded.pop(attempt, None)
        self._pass_on(attempt)

    # --- turns

    async def _wait(self, attempt: Attempt, waiting: Coroutine[Any, Any, Any]) -> bool:
        """Wait for `waiting`. Return False if the job is cancelled or the worker is stopped before `waiting` is
        done."""
        self._waiting.add(attempt)
        try:
            return await attempt.wait(waiting)
        finally:
            self._waiting.discard(attempt)

    def _pass_on(self, attempt: Attempt) -> None:
        """Pass the turn to the next suspect, if it is the turn of `attempt`."""
        if self._current is not attempt:
            return
        self._current = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._let_others_in()
        self._turn.release()

    async def _watch_over(self, attempt: Attempt, starts: int) -> None:
        """Let other jobs run beside a suspect that runs for long. The suspect must not be charged for the other jobs,
        so its start is taken off the record first. A suspect that kills its worker even later has twice the time when
        it comes again."""
        again = max(0, attempt.delivery.count - _max_crashes(attempt))
        # The exponent is bounded, so that the product stays a number that a sleep accepts.
        await asyncio.sleep(_LONGEST_TURN * 2.0 ** min(again, 20))
        while True:
            try:
                # Before the turn passes on: a start that is still on record when other jobs run would be charged for
                # them.
                await self._broker.record_start(attempt.delivery, starts)
                break
            except BrokerError as error:
                _log.warning("%s %s stays a suspect: %s", attempt.name, attempt.delivery.id, error.message)
                await asyncio.sleep(1.0)
        self._watch = None
        self._pass_on(attempt)

    # --- alone

    async def _clear(self, attempt: Attempt, patience: float) -> None:
        """Let no other job begin, and wait until no other job runs; but let the other jobs go on if that takes too
        long."""
        await asyncio.sleep(self._rest_until - time.monotonic())
        began = self._alone_since = time.monotonic()
        self._admit(False)
        try:
            await asyncio.sleep(0)  # a job that a limit has just let in has begun after this
            while True:
                await asyncio.sleep(0)
                if all(self._is_idle(other) for other in self._held() if other is not attempt):
                    return
                if time.monotonic() - began > patience:
                    self._let_others_in()
                    return
                await asyncio.sleep(_LOOK)
        except asyncio.CancelledError:
            self._let_others_in()
            raise

    def _is_idle(self, other: Attempt) -> bool:
        """Return whether no user code runs for `other`, and none will run before other jobs are let in."""
        waits = other in self._waiting or other.waits_at is not None
        return waits or other.storing or bool(other.delivery.schedule)

    def _let_others_in(self) -> None:
        if self._alone_since is not None:
            now = time.monotonic()
            self._rest_until = now + min(now - self._alone_since, _LONGEST_REST)
            self._alone_since = None
            self._admit(True)

    # --- records

    async def _examine(self, attempt: Attempt) -> tuple[Outcome | None, int]:
        """Return an outcome if the job must not run, else None; and how many starts are on record."""
        if await self.is_superseded(attempt):
            return Superseded(), 0
        starts = await self._broker.recorded_starts(attempt.delivery)
        if attempt.ending is not None:
            return outcome_without_run(attempt.ending), starts
        return crashed(starts, _max_crashes(attempt)), starts

    async def _write(self, attempt: Attempt, starts: int) -> bool:
        """Put `starts` starts on record. Return False if the job is cancelled or the worker is stopped before the
        record is surely written. Raises BrokerError if the job no longer belongs to this worker."""
        pauses = backoff(_FIRST_BACKOFF, _LAST_BACKOFF)
        while True:
            try:
                await self._broker.record_start(attempt.delivery, starts)
                return True
            except BrokerError as error:
                # The record may be stored all the same, and left to its lease the job would be charged for a start that
                # did not happen.
                if not self._valid(attempt.delivery):
                    raise
                _log.warning("%s %s has to wait: %s", attempt.name, attempt.delivery.id, error.message)
            if not await self._wait(attempt, asyncio.sleep(next(pauses))):
                return False

    def _is_last(self, attempt: Attempt, starts: int) -> bool:
        return crashed(starts + 1, _max_crashes(attempt)) is not None


def _max_crashes(attempt: Attempt) -> int:
    return attempt.options.max_crashes
