"""One attempt of one job: load, call, settle. Every attempt ends in one Outcome, and `settle` alone spends it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from jetq.client.task import Task
from jetq.errors import BrokerError
from jetq.model.outcome import Cancelled, Expired, InLine, Outcome, PutOff, Superseded
from jetq.worker.attempts.attempt import Attempt
from jetq.worker.attempts.calling import Caller, GivenUp, ServedApp
from jetq.worker.attempts.expiry import ExpiryHook
from jetq.worker.attempts.loading import Loader
from jetq.worker.attempts.settlement import Settlement
from jetq.worker.attempts.suspects import Suspects
from jetq.worker.leases import Leases
from jetq.worker.limits.limits import Limits
from jetq.worker.pools.pools import Pools

__all__ = ["Executor", "GivenUp"]

_log = logging.getLogger("jetq.worker")


class Executor:
    """Runs the attempts of one worker.

    app: what it takes of the app whose worker this is. loader: reads its jobs, of all tasks that it can run. pools: run
    their functions. worker: its name in records.
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
        pools: Pools,
        worker: str,
    ) -> None:
        self._leases = leases
        self._loader = loader
        self._settlement = settlement
        self._limits = limits
        self._suspects = suspects
        self._caller = Caller(app, pools, leases, worker=worker, pause=limits.pause)
        self._expiry = ExpiryHook(app.on_expired, worker)
        self._once = _started_once(loader.tasks)
        if self._once:
            _log.info("jobs of %s run alone, each in its turn: their max_crashes is 1", ", ".join(sorted(self._once)))

    async def run(self, attempt: Attempt) -> None:
        """The whole life of an attempt. Raises nothing: what cannot be settled comes back when its lease lapses."""
        if attempt.delivery.count > 1:
            if await self._recalled(attempt):
                await self._run_suspect(attempt)
            return
        if self._once and attempt.delivery.task in self._once:
            await self._run_suspect(attempt)
            return
        outcome = self._loader.load(attempt)
        if outcome is None:
            limited = self._limits.concern(attempt)
            outcome = await (self._call_within_limits(attempt) if limited else self._caller.call(attempt))
        elif isinstance(outcome, Expired):
            await self._expiry.tell(attempt)
        try:
            await self._settlement.settle(attempt, outcome, wait=False)
        finally:
            if type(outcome) is InLine:
                self._limits.lined_up(outcome)

    async def _call_within_limits(self, attempt: Attempt) -> Outcome:
        limits = self._limits
        outcome = await limits.enter(attempt, limits.find(attempt))
        if outcome is not None:
            return outcome
        try:
            if self._loader.has_expired(attempt):  # while it waited
                await self._expiry.tell(attempt)
                return Expired()
            return await self._caller.call(attempt)
        finally:
            limits.leave(attempt)

    async def _recalled(self, attempt: Attempt) -> bool:
        """What was kept of it is known now, if anything. False if it must not run and was dealt with."""
        try:
            outcome = await self._settlement.recall(attempt)
        except BrokerError as error:
            _log.warning("%s %s is left to its lease: %s", attempt.name, attempt.delivery.id, error.message)
            self._leases.drop(attempt.delivery)
            return False
        if outcome is None:
            return True
        attempt.task = self._loader.tasks.get(attempt.delivery.task)  # for how long its result is kept
        await self._settlement.settle(attempt, Cancelled() if attempt.cancelled else outcome)
        return False

    async def _run_suspect(self, attempt: Attempt) -> None:
        """A redelivered job may have killed its worker: nothing of the user's runs before its turn has come and its
        start is on record. The same for one that may be started once only."""
        outcome: Outcome | None = None
        try:
            outcome = await self._recognize_suspect(attempt)
            if outcome is None and self._limits.concern(attempt):
                outcome = await self._enter_as_suspect(attempt)
            if outcome is None:
                outcome = await self._suspects.begin(attempt)
            if outcome is None:
                outcome = await self._load_and_tell(attempt)
            if outcome is None:
                outcome = await self._caller.call(attempt)
            if await self._settlement.settle(attempt, outcome):
                await self._suspects.acquit(attempt)
        except BrokerError as error:
            _log.warning("%s %s is left to its lease: %s", attempt.name, attempt.delivery.id, error.message)
            self._leases.drop(attempt.delivery)
        finally:
            self._suspects.end(attempt)
            self._limits.leave(attempt)
            if isinstance(outcome, InLine):
                self._limits.lined_up(outcome)

    async def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Settle an attempt without a run."""
        await self._settlement.settle(attempt, outcome)

    async def settle_given_up(self, attempt: Attempt, outcome: Outcome, *, goes_on: bool) -> None:
        """Settle an attempt whose code has not ended. goes_on: it may for long, and its places go to others."""
        if goes_on:
            self._limits.leave(attempt)
        if await self._settlement.settle(attempt, outcome):
            await self._suspects.acquit(attempt)
        if goes_on:
            self._suspects.end(attempt)

    async def _recognize_suspect(self, attempt: Attempt) -> Outcome | None:
        outcome = self._loader.recognize(attempt)
        if isinstance(outcome, PutOff) and self._loader.has_expired(attempt):
            return None  # it is not put off: the hook is told of it, and that is the user's
        if outcome is not None and await self._suspects.is_superseded(attempt):
            return Superseded()
        return outcome

    async def _enter_as_suspect(self, attempt: Attempt) -> Outcome | None:
        """Wait for its limits. Not within its turn, which others wait for; but what they are is asked within one."""
        outcome = await self._suspects.begin(attempt)
        if outcome is None:
            outcome = await self._load_and_tell(attempt)
        if outcome is not None:
            return outcome
        ways = self._limits.find(attempt)
        outcome = await self._suspects.interrupt(attempt)
        return await self._limits.enter(attempt, ways) if outcome is None else outcome

    async def _load_and_tell(self, attempt: Attempt) -> Outcome | None:
        outcome = self._loader.load(attempt)
        if isinstance(outcome, Expired):
            await self._expiry.tell(attempt)
        return outcome


def _started_once(tasks: Mapping[str, Task[..., Any]]) -> set[str]:
    """Return the names of those tasks whose jobs may be started once only."""
    # A process of its own that dies is charged exactly, and with no start on record.
    options = {name: task.declared for name, task in tasks.items()}
    return {name for name, each in options.items() if each.max_crashes == 1 and each.run_in != "process"}
