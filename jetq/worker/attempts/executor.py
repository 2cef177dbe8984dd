"""Runs one attempt of one job: load, call, settle. Every attempt ends in one Outcome, and only `settle` acts on that
Outcome."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from jetq.client.task import Task
from jetq.errors import BrokerError
from jetq.model.outcome import Cancelled, Expired, InLine, Outcome, PutOff, Superseded
from jetq.operations.workflows.creating import START
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.calling import Caller, GivenUp, ServedApp
from jetq.worker.attempts.expiry import ExpiryHook
from jetq.worker.attempts.loading import Loader
from jetq.worker.attempts.settlement import Settlement
from jetq.worker.attempts.suspects import Suspects
from jetq.worker.leases import Leases
from jetq.worker.limits.limits import Limits
from jetq.worker.pools.pools import Pools
from jetq.worker.workflows.members import Members

__all__ = ["Executor", "GivenUp"]

_log = logging.getLogger("jetq.worker")


class Executor:
    """Runs the attempts of one worker.

    app: the parts of the worker's app that jobs need. loader: reads the worker's jobs, of all tasks that the worker can
    run. pools: run the functions of the tasks. worker: the worker's name in records.
    """

    def __init__(
        self,
        app: ServedApp,
        leases: Leases,
        loader: Loader,
        *,
        settlement: Settlement,
        limits: Limits,
        suspects: Suspects,
        members: Members,
        pools: Pools,
        worker: str,
    ) -> None:
        self._leases = leases
        self._loader = loader
        self._settlement = settlement
        self._limits = limits
        self._suspects = suspects
        self._members = members
        self._caller = Caller(app, pools, leases, worker=worker, pause=limits.pause)
        self._expiry = ExpiryHook(app, worker)
        self._once = _started_once(loader.tasks)
        if self._once:
            _log.info("jobs of %s run alone, each in its turn: their max_crashes is 1", ", ".join(sorted(self._once)))

    async def run(self, attempt: Attempt) -> None:
        """Run an attempt from its load to its settlement. A job that cannot be settled comes back when its lease
        lapses. Raises GivenUp as `Caller.call` does."""
        if attempt.delivery.count > 1:
            if await self._recalled(attempt):
                await self._run_suspect(attempt)
            return
        if self._once and attempt.delivery.task in self._once:
            await self._run_suspect(attempt)
            return
        outcome = self._loader.load(attempt)
        if outcome is None and (attempt.meta.flow is not None or attempt.delivery.task == START):
            try:
                outcome = await self._begin_member(attempt)
            except BrokerError as error:
                return self._leave(attempt, error)
        if outcome is None:
            limited = self._limits.concern(attempt)
            outcome = await (self._call_within_limits(attempt) if limited else self._caller.call(attempt))
        elif isinstance(outcome, Expired):
            await self._expiry.call(attempt)
        try:
            await self._settlement.settle(attempt, outcome, wait=False)
        finally:
            if type(outcome) is InLine:
                # After the settlement: told earlier, a worker would look for a parked job that is not stored yet.
                self._limits.lined_up(outcome)

    def _leave(self, attempt: Attempt, error: BrokerError) -> None:
        """Leave a job to its lease, because the broker cannot be asked what is to become of the job."""
        _log.warning("%s %s is left to its lease: %s", attempt.name, attempt.delivery.id, error.message)
        self._leases.drop(attempt.delivery)

    async def _begin_member(self, attempt: Attempt) -> Outcome | None:
        outcome = await self._members.begin(attempt)
        return await self._members.blamed(attempt, self._loader.load(attempt)) if outcome is None else outcome

    async def _call_within_limits(self, attempt: Attempt) -> Outcome:
        limits = self._limits
        outcome = await limits.enter(attempt, limits.find(attempt))
        if outcome is not None:
            return outcome
        try:
            if self._loader.has_expired(attempt):  # the job expired while it waited
                await self._expiry.call(attempt)
                return Expired()
            return await self._caller.call(attempt)
        finally:
            limits.leave(attempt)

    async def _recalled(self, attempt: Attempt) -> bool:
        """Take up what was kept of the job, if anything. Return False if the job must not run and was dealt with."""
        try:
            # Before any code of the job runs: what is kept may say that the job is dead or not due yet.
            outcome = await self._settlement.recall(attempt)
        except BrokerError as error:
            self._leave(attempt, error)
            return False
        if outcome is None:
            return True
        attempt.task = self._loader.tasks.get(attempt.delivery.task)  # the task says for how long a result is kept
        await self._settlement.settle(attempt, Cancelled() if attempt.cancelled else outcome)
        return False

    async def _run_suspect(self, attempt: Attempt) -> None:
        """Run a job that may have killed its worker: no user code runs before the job's turn has come and its start is
        on record. A job that may be started only once is run in the same way."""
        outcome: Outcome | None = None
        try:
            outcome = await self._recognize_suspect(attempt)
            if outcome is None and (attempt.meta.flow is not None or attempt.delivery.task == START):
                # Before its turn, because other suspects wait for that, and this takes answers of the broker.
                outcome = await self._members.begin(attempt)
            if outcome is None and self._limits.concern(attempt):
                outcome = await self._enter_as_suspect(attempt)
            if outcome is None:
                outcome = await self._suspects.begin(attempt)
            if outcome is None:
                outcome = await self._load_and_tell(attempt)
            if outcome is None:
                outcome = await self._caller.call(attempt)
            # The starts are erased after the outcome is stored: erased before, the job would not be charged if the
            # worker dies in between.
            if await self._settlement.settle(attempt, outcome):
                await self._suspects.acquit(attempt)
        except BrokerError as error:
            self._leave(attempt, error)
        finally:
            self._suspects.end(attempt)
            self._limits.leave(attempt)
            if isinstance(outcome, InLine):
                self._limits.lined_up(outcome)

    async def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Settle an attempt without a run."""
        await self._settlement.settle(attempt, outcome)

    async def settle_given_up(self, attempt: Attempt, outcome: Outcome, *, goes_on: bool) -> None:
        """Settle an attempt whose code has not ended. goes_on: the code may run on for long, and its slots go to other
        jobs."""
        if goes_on:
            self._limits.leave(attempt)
        if await self._settlement.settle(attempt, outcome):
            await self._suspects.acquit(attempt)
        if goes_on:
            self._suspects.end(attempt)

    async def _recognize_suspect(self, attempt: Attempt) -> Outcome | None:
        outcome = self._loader.recognize(attempt)
        if isinstance(outcome, PutOff) and self._loader.has_expired(attempt):
            return None  # an expired job is not put off: the hook is told of it, and the hook is user code
        if outcome is not None and await self._suspects.is_superseded(attempt):
            return await self._members.settled_before(attempt) or Superseded()
        return outcome

    async def _enter_as_suspect(self, attempt: Attempt) -> Outcome | None:
        """Wait for the job's limits outside of its turn, for which other suspects wait. Which limits these are is asked
        within a turn, because `limit_per` may be user code."""
        outcome = await self._suspects.begin(attempt)
        if outcome is None:
            outcome = await self._load_and_tell(attempt)
        if outcome is not None:
            return outcome
        ways = self._limits.find(attempt)
        outcome = await self._suspects.interrupt(attempt)
        return await self._limits.enter(attempt, ways) if outcome is None else outcome

    async def _load_and_tell(self, attempt: Attempt) -> Outcome | None:
        outcome = await self._members.blamed(attempt, self._loader.load(attempt))
        if isinstance(outcome, Expired):
            await self._expiry.call(attempt)
        return outcome


def _started_once(tasks: Mapping[str, Task[..., Any]]) -> set[str]:
    """Return the names of the tasks whose jobs may be started only once."""
    # A job that kills a process of its own is charged exactly, without a start on record.
    options = {name: task.declared for name, task in tasks.items()}
    return {name for name, each in options.items() if each.max_crashes == 1 and each.run_in != "process"}
