"""Decides what to do with a delivery that has its slot: handle a tick, give the job back, put it off, or run it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from jetq.broker import Broker
from jetq.client.app import Jetq
from jetq.encoding.sealer import Sealer
from jetq.model.outcome import Released
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.executor import Executor, GivenUp
from jetq.worker.attempts.handover import Handover
from jetq.worker.attempts.loading import Loader
from jetq.worker.attempts.lost import Lost
from jetq.worker.attempts.settlement import Settlement
from jetq.worker.attempts.suspects import Suspects
from jetq.worker.leases import Leases
from jetq.worker.limits.limits import Limits
from jetq.worker.options import WorkerOptions
from jetq.worker.pools.pools import Pools
from jetq.worker.pools.processes import ProcessPool, usable_cores
from jetq.worker.pools.threads import ThreadPool
from jetq.worker.schedules.ticks import TickRunner, Ticks
from jetq.worker.slots import WorkerSlots
from jetq.worker.workflows.members import Members

__all__ = ["AttemptRunner"]

_log = logging.getLogger("jetq.worker")


class AttemptRunner:
    """Runs the attempts of one worker, each to its end, with the pools and limits that they share.

    admit: opens the worker's slots to other jobs, or closes them while a suspect runs alone. on_end: called with each
    attempt that is settled, or left to its lease. on_storing: called when an attempt holds no slot any more, but is not
    settled: its return value is on its way to the broker.
    """

    def __init__(
        self,
        app: Jetq,
        options: WorkerOptions,
        broker: Broker,
        *,
        leases: Leases,
        handover: Handover,
        slots: WorkerSlots,
        ticks: Ticks,
        admit: Callable[[bool], None],
        on_end: Callable[[Attempt], None],
        on_storing: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._leases = leases
        self._on_end = on_end
        self._on_storing = on_storing
        self.threads = ThreadPool(options.concurrency)
        self.processes = ProcessPool(min(options.concurrency, usable_cores()))
        sealer = Sealer(app.payloads)
        self.members = members = Members(broker, sealer, options.name, lambda: slots.attempts)
        self.settlement = Settlement(broker, leases, options.name, members.ends, ended=on_end, pass_on=handover.pass_on)
        self.limits = Limits(
            broker,
            leases.presence,
            options.tasks,
            hold=options.concurrency,
            room=slots.room,
            in_time=options.in_time,
        )
        self._ticks = TickRunner(ticks, broker, leases, self.settlement)
        self._executor = Executor(
            app,
            leases,
            Loader(broker, options.tasks, handover, sealer),
            settlement=self.settlement,
            limits=self.limits,
            suspects=Suspects(broker, valid=leases.valid, held=lambda: slots.attempts, admit=admit),
            members=members,
            pools=Pools(self.threads, self.processes),
            worker=options.name,
        )
        self.lost = Lost(self._executor, leases, ended=on_end)

    async def run(self, attempt: Attempt) -> None:
        """Do with `attempt` what its delivery needs, until the attempt is settled or `storing`. Run this in a task of
        its own."""
        attempt.runner = asyncio.current_task(self._loop)
        lost = self.lost
        try:
            if attempt.delivery.schedule:
                await self._ticks.run(attempt)
            elif attempt.ending == "release":
                await self.settlement.settle(attempt, Released())
            elif (lost.attempts and attempt.delivery in lost) or self._leases.runs_still(attempt.delivery):
                # Code of an earlier delivery of the job goes on in this worker: the job must not start beside it.
                await lost.put_off(attempt)
            else:
                await self._executor.run(attempt)
        except GivenUp:
            lost.over(attempt)
        except BaseException as error:
            # A fault of jetq's own, or a cancellation of all existing tasks. The job is not settled, so the job comes
            # back when its lease lapses; and whatever the error was, it does not end the worker.
            _log.exception("%s %s could not be handled", attempt.name, attempt.delivery.id)
            self._leases.drop(attempt.delivery)
            if isinstance(error, asyncio.CancelledError | GeneratorExit):
                raise
        finally:
            if attempt.storing:
                self._on_storing()
            elif not attempt.given_up:
                self._on_end(attempt)

    @property
    def has_lost(self) -> bool:
        """Whether code of jobs still runs although its attempt or thread was given up."""
        return len(self.lost.attempts) > 0 or self.threads.lost > 0
