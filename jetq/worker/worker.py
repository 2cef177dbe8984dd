"""The worker: slots, feeds, and the way from the first job to an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from jetq.broker import Broker, Feed
from jetq.client.app import Jetq, serves
from jetq.client.declared_schedules import definitions
from jetq.encoding.sealer import Sealer
from jetq.errors import BrokerError, BrokerUnavailable, DefinitionError
from jetq.model.definitions.checks import check_count, check_duration
from jetq.model.definitions.queue import check_served, check_weight
from jetq.model.job import LEVELS, Delivery, Level
from jetq.model.outcome import Released
from jetq.worker.attempts.attempt import Attempt, running_now
from jetq.worker.attempts.executor import Executor, GivenUp
from jetq.worker.attempts.handover import Handover
from jetq.worker.attempts.loading import Loader
from jetq.worker.attempts.lost import Lost
from jetq.worker.attempts.settlement import Settlement
from jetq.worker.attempts.suspects import Suspects
from jetq.worker.control import Control
from jetq.worker.eager_start import FirstSteps
from jetq.worker.intake import Intake
from jetq.worker.leases import Leases
from jetq.worker.lifespan import around
from jetq.worker.limits.limits import Limits
from jetq.worker.pools.pools import Pools
from jetq.worker.pools.processes import ProcessPool, usable_cores
from jetq.worker.pools.threads import ThreadPool
from jetq.worker.process.ending import HardEnd
from jetq.worker.process.loop_watch import LoopWatch
from jetq.worker.schedules.keeper import Keeping
from jetq.worker.schedules.ticks import TickRunner, Ticks
from jetq.worker.stopping import Stopping

__all__ = ["Worker"]

T = TypeVar("T")

_log = logging.getLogger("jetq.worker")

_TICK = 0.05
"""Seconds between looks at deadlines: a timeout is late by at most this."""

_BURST_POLL = 0.1
_LOOK_FOR_LEVELS = 30.0


class Worker:
    """Runs the jobs of some queues of `app`.

    queues: their names, or their weights by name; None serves every queue of the app's tasks. concurrency: how many
    jobs run at once, from 1. burst: end when the queues are empty (jobs scheduled for later do not count). grace:
    seconds that running jobs get at shutdown before they are cancelled and given back. max_jobs: take so many jobs,
    from 1, and stop when one of them has ended. enough: asked after each job; True stops the worker.

    Raises DefinitionError if there are no tasks or a value is impossible.
    """

    _in_time = True

    def __init__(
        self,
        app: Jetq,
        *,
        queues: Sequence[str] | Mapping[str, int] | None = None,
        concurrency: int = 100,
        burst: bool = False,
        grace: float = 25.0,
        max_jobs: int | None = None,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        check_count("concurrency", concurrency)
        if max_jobs is not None:
            check_count("max_jobs", max_jobs)
        check_duration("grace", grace)
        if not isinstance(app, Jetq):
            raise DefinitionError(f"a worker runs the tasks of an app, and {type(app).__name__} is none")
        if not app.tasks:
            raise DefinitionError(
                "there are no tasks to run", hint="import the modules that define them: jetq worker MODULE..."
            )
        self.app = app
        self.tasks = dict(app.tasks)
        self.queues = check_served(queues or sorted({task.queue for task in self.tasks.values()}))
        self._weights = {name: queue.weight for name, queue in app.queues.items()}
        if isinstance(queues, Mapping):
            self._weights |= {name: check_weight(name, weight) for name, weight in queues.items()}
        self._defined = definitions(task for task in self.tasks.values() if task.queue in self.queues)
        self.concurrency = concurrency
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._burst = burst
        self._left = sys.maxsize if max_jobs is None else max_jobs
        self._enough = enough
        self._intake = Intake(concurrency, self._weights, ahead=max_jobs is None)
        self._attempts: set[Attempt] = set()
        self._taken: deque[Attempt] = deque()
        self._begin_due = self._resume_due = False
        self._slots = concurrency
        self._suspects = 0
        self._prepared = self._serving = False
        self._control = Control(
            self.name,
            queues=self.queues,
            tasks=self.tasks,
            slots=concurrency,
            held=lambda: (*self._attempts, *self._intake),
            stopping=lambda: self._stopping.is_set(),
        )
        self.grace = grace
        self._ending = Stopping(grace, self._attempts)
        self._stopping, self._idle = self._ending.asked, self._ending.idle

    def stop(self) -> None:
        """Take no more jobs, give back those not started, let the running ones end within the grace time."""
        self._ending.stop()

    def kill(self) -> None:
        """Like `stop`, but cancel the running jobs now and give them back."""
        self._ending.kill()

    def ends_process(self, hard: HardEnd) -> None:
        """The process is to end with this worker: at the latest by `hard`, which is told what does not end."""
        self._ending.hard = hard
        hard.left = self._ending.left

    @property
    def has_lost(self) -> bool:
        """Whether code of jobs goes on that nobody waits for any more."""
        return self._serving and (len(self._lost.attempts) > 0 or self._threads.lost > 0)

    @property
    def running(self) -> int:
        """Jobs this worker holds, started or about to be."""
        return len(self._attempts) + len(self._intake)

    @property
    def expired(self) -> int:
        """Jobs that came too late to be run."""
        return self._settlement.expired

    @property
    def expects_more(self) -> bool:
        """Whether jobs are to come that stand in the line of a limit."""
        return self._prepared and self._limits.busy

    @property
    def trouble(self) -> str | None:
        """Why this worker takes no jobs at the moment; None if it does, be it ever so busy."""
        if self._stopping.is_set():
            return "stopping"
        if not self._serving:
            return "starting"
        return next((feed.trouble for feed in self._intake.feeds if feed.trouble is not None), None)

    @property
    def retired(self) -> bool:
        """Whether this worker has taken `max_jobs`, or has had `enough`."""
        return self._left <= 0 or self._enough()

    @serves
    async def run(self) -> None:
        """Work until `stop`, or until the queues are empty with `burst`, then end in order.

        Guarantee: tests/faults/test_shutdown.py: a stop under load loses nothing and charges nothing;
        tests/faults/test_rolling.py: nor do a hundred in a row.
        """
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._steps = FirstSteps(self._loop)
        broker = await self._unless_stopped(self.app.session.broker(patient=True))
        if broker is None:
            return
        lifespan = None if self.app.lifespan is None else partial(self.app.lifespan, self.app)
        self._ending.stage = "the app's lifespan"
        try:
            async with around(lifespan, self._stopping, self._ending.left_for_lifespan) as entered:
                if not entered:
                    return
                self._ending.stage = ""
                await self._prepare(broker)
                try:
                    await self._work(broker)
                finally:
                    self._ending.stage = ""
                    self._limits.stop()
                    await self._handover.close()
                    await self._ending.end_attempts(self._intake, self._give_back)
                    self._ending.stage = "the app's lifespan"
        finally:
            if self._serving:
                await self._finish(broker)

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` returns; None, and `work` is cancelled, if the worker is stopped before."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            return await working if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()

    async def _prepare(self, broker: Broker) -> None:
        self._threads = ThreadPool(self.concurrency)
        self._processes = ProcessPool(min(self.concurrency, usable_cores()))
        for queue in self.queues:
            await self._unless_stopped(self._patiently(f"queue {queue}", partial(self._serve, broker, queue)))
        self._leases = Leases(self.app.session.connect, broker.lease, self.queues, heard=self._intake.expect)
        self._leases.start()
        self._handover = Handover(
            broker, self._leases, self.tasks, self._intake, self._places, self._on_delivery, self._stopping
        )
        pass_on = self._handover.pass_on
        self._settlement = Settlement(broker, self._leases, self.name, ended=self._end, pass_on=pass_on)
        self._limits = Limits(
            broker, self._leases.presence, self.tasks, hold=self.concurrency, room=self._places, in_time=self._in_time
        )
        self._prepared = True
        await self._unless_stopped(self._patiently("limits", self._limits.listen))
        self._broker = broker
        self._handover.listen(self.queues)
        ticks = Ticks(broker)
        self._ticks = TickRunner(ticks, broker, self._leases, self._settlement)
        self._keeping = Keeping(broker, self.queues, self._defined, ticks, self.app.payloads)
        await self._unless_stopped(self._keeping.store())
        self._executor = Executor(
            self.app,
            self._leases,
            Loader(broker, self.tasks, self._handover, Sealer(self.app.payloads)),
            settlement=self._settlement,
            limits=self._limits,
            suspects=Suspects(broker, valid=self._leases.valid, held=lambda: self._attempts, admit=self._admit),
            pools=Pools(self._threads, self._processes),
            worker=self.name,
        )
        self._lost = Lost(self._executor, self._leases, ended=self._end)
        _log.info("worker %s serves %s with %d slots", self.name, ", ".join(self.queues), self.concurrency)

    async def _serve(self, broker: Broker, queue: str) -> None:
        await self._control.listen(broker, queue)
        await self._open(broker, queue)

    async def _patiently(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        backoff = 0.5
        while True:
            try:
                await work()
                return
            except BrokerUnavailable as error:
                _log.warning("%s: %s; trying again in %g s", what, error.message, backoff)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, 5.0)

    async def _open(self, broker: Broker, queue: str) -> None:
        """Take in `queue`: one feed, or one for each level if it has some."""
        declared = self.app.queues.get(queue)
        policy = None if declared is None else declared.weights
        if declared is not None and declared.levels is not None:
            await broker.setup(queue, levels=True)
        elif not await broker.levels(queue):
            self._intake.open(queue, {"normal": await broker.feed(queue, self._on_delivery)}, None)
            return
        feeds: dict[Level, Feed] = {
            level: await broker.feed(queue, self._on_delivery, level=level, on_clear=self._take_more)
            for level in LEVELS
        }
        self._intake.open(queue, feeds, policy)

    async def _watch_levels(self, broker: Broker) -> None:
        """A queue may get levels while this worker runs: with the first job that has one."""
        while True:
            await asyncio.sleep(_LOOK_FOR_LEVELS)
            for queue in self.queues:
                try:
                    if queue in self._intake and not self._intake.has_levels(queue) and await broker.levels(queue):
                        await self._intake.close(queue)
                        await self._open(broker, queue)
                except BrokerError as error:
                    _log.warning("queue %s: whether it has levels is not known: %s", queue, error.message)
                except Exception:  # see `Keeping`
                    _log.exception("queue %s: whether it has levels is not known", queue)

    async def _work(self, broker: Broker) -> None:
        self._watch = LoopWatch(lambda: running_now(list(self._attempts), self._loop))
        self._watch.start()
        timekeeping = asyncio.create_task(self._keep_time(), name="jetq-worker-time")
        levels = asyncio.create_task(self._watch_levels(broker), name="jetq-worker-levels")
        recurring = asyncio.create_task(self._keeping.keep(), name="jetq-worker-schedules")
        try:
            self._serving = True
            self._take_more()
            if self._burst:
                await self._until_empty(broker)
            else:
                await self._stopping.wait()
        finally:
            timekeeping.cancel()
            self._watch.stop()
            recurring.cancel()
            levels.cancel()
            self.stop()

    # --- slots

    def _on_delivery(self, delivery: Delivery) -> None:
        if not self._leases.hold(delivery):
            return self._intake.came_back()
        if self._handover.coming:
            self._handover.arrived(delivery)
        attempt = Attempt(delivery)
        if self._control.is_cancelled(delivery):
            attempt.cancel()
        if self._stopping.is_set():
            self._give_back(attempt)
        # With several queues or levels each has a request, so more can come than there are slots.
        elif self._intake.arrived(attempt, self._free() > 0):
            self._start(attempt)
        else:
            self._start_next()

    def _start_next(self) -> None:
        while self._free() > 0 and (attempt := self._intake.next()) is not None:
            self._start(attempt)

    def _take_more(self) -> None:
        """Fill the free slots, with what waits and with what is asked for."""
        if not self._stopping.is_set():
            if len(self._intake):
                self._start_next()
            self._intake.ask(self._free())

    def _start(self, attempt: Attempt) -> None:
        if not self._attempts:
            self._idle.clear()
        self._attempts.add(attempt)
        self._left -= not attempt.delivery.schedule
        self._suspects += attempt.delivery.count > 1
        self._taken.append(attempt)
        self._begin_soon()

    def _give_back(self, attempt: Attempt) -> None:
        attempt.release()
        self._left += not attempt.delivery.schedule
        self._start(attempt)

    def _admit(self, others: bool) -> None:
        """Begin other jobs, or none for now."""
        self._slots = self.concurrency if others else -sys.maxsize
        self._resume_soon()

    def _begin_soon(self) -> None:
        # Not in this step, which may be a job's own; and in the worker's context, which is no job's.
        if not self._begin_due:
            self._begin_due = True
            self._loop.call_soon(self._begin, context=self._context)

    def _begin(self) -> None:
        begin, run = self._steps.begin, self._run
        try:
            if self._resume_due:
                self._resume()
            for _ in range(len(self._taken)):  # what comes meanwhile waits until acks are sent and messages read
                begin(run(self._taken.popleft()))
        finally:
            self._begin_due = False
            if self._resume_due:
                self._resume()
            if self._taken:
                self._begin_soon()

    async def _run(self, attempt: Attempt) -> None:
        attempt.runner = asyncio.current_task(self._loop)
        try:
            if attempt.delivery.schedule:
                await self._ticks.run(attempt)
            elif attempt.ending == "release":
                await self._settlement.settle(attempt, Released())
            elif self._lost.attempts and attempt.delivery in self._lost:
                await self._lost.put_off(attempt)
            elif self._leases.runs_still(attempt.delivery):
                await self._lost.put_off(attempt)
            else:
                await self._executor.run(attempt)
        except GivenUp:
            self._lost.over(attempt)
        except BaseException as error:
            # A fault of jetq's own, or who cancels all tasks there are. The job is not settled, so it comes back when
            # its lease lapses; and whatever it was, it does not end the worker.
            _log.exception("%s %s could not be handled", attempt.name, attempt.delivery.id)
            self._leases.drop(attempt.delivery)
            if isinstance(error, asyncio.CancelledError | GeneratorExit):
                raise
        finally:
            if attempt.storing:
                self._resume_soon()
            elif not attempt.given_up:
                self._end(attempt)

    def _end(self, attempt: Attempt) -> None:
        """It is settled, or given up."""
        self._attempts.discard(attempt)
        if not self._attempts:
            self._idle.set()
        self._suspects -= attempt.delivery.count > 1
        if self._left <= 0 or self._enough():
            self.stop()
        self._resume_soon()

    def _resume_soon(self) -> None:
        """There may be free slots: look once for all that end in this loop turn."""
        if not self._resume_due:
            self._resume_due = True
            self._begin_soon()

    def _resume(self) -> None:
        self._resume_due = False
        self._limits.resume()
        self._handover.resume()
        self._take_more()

    def _free(self) -> int:
        places, left = self._places(), self._left
        return places if places < left else left

    def _places(self) -> int:
        # Who waits for a limit holds no slot, and there are never many of those. Nor does whose result is being stored,
        # up to `concurrency` of them. Suspects wait for one another and would idle the slots they hold, so up to
        # `concurrency` of them hold none either.
        storing = min(self._settlement.storing, self.concurrency)
        places = self._slots - len(self._attempts) + storing + self._limits.waiting
        return places if self._suspects < 2 else places + min(self._suspects - 1, self.concurrency)

    # --- time

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._watch.turned()
            now = time.monotonic()
            for attempt in list(self._attempts):
                if attempt.deadline is not None and attempt.deadline <= now and attempt.interruptible:
                    if attempt.time_out(now):
                        self._lost.give_up(attempt)
            self._control.forget(now)
            self._take_more()  # for the slots of requests that ended unanswered
            for attempt in self._intake.surplus(all=self._slots < 0):
                self._give_back(attempt)

    async def _until_empty(self, broker: Broker) -> None:
        while not self._stopping.is_set():
            if not self._attempts and await self._queues_empty(broker):
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _BURST_POLL)

    async def _queues_empty(self, broker: Broker) -> bool:
        await broker.confirm()
        try:
            infos = await broker.queues()
        except BrokerError as error:
            _log.warning("cannot see whether the queues are empty: %s", error.message)
            return False
        mine = [info for info in infos if info.name in self._intake]
        done = all(info.running == 0 and (info.ready == 0 or info.paused_until is not None) for info in mine)
        return done and not self._attempts and not self.expects_more

    # --- the end

    async def _finish(self, broker: Broker) -> None:
        self._ending.stage = "the leave that it takes of the broker"
        try:
            some_run = await self._ending.give_up_rest(self._lost)
            self._steps.close()
            if not some_run:  # their places in limits are free when they are gone
                await self._limits.close()
            await broker.confirm()
        finally:  # who cancels this as well must not be left with leases that are renewed for ever
            self._leases.stop()
            self._threads.close()
        await self._processes.aclose()
        self._ending.stage = ""
        _log.info("worker %s has ended", self.name)
