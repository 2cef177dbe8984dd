"""One run of a worker, from its broker to its orderly end, and the walk of a delivery to its start.

The walk: a feed calls `_on_delivery`, which holds the lease and lets the intake decide. A job that may start takes a
slot and is queued (`_enqueue_for_start`). The next step of the loop starts all queued jobs (`_drain_taken`), each by
`AttemptRunner.run`, at once and without a task. When an attempt ends, `_on_end` gives its slot back, and the same step
of the loop fills the free slots (`_refill`): with jobs that wait in the intake, and with jobs that the intake asks the
broker for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable
from contextvars import Context
from functools import partial

from jetq.broker import Broker
from jetq.client.app import Jetq
from jetq.model.job import Delivery
from jetq.worker.attempt import Attempt, running_now
from jetq.worker.attempt_runner import AttemptRunner
from jetq.worker.attempts.handover import Handover
from jetq.worker.cancellations import Cancellations
from jetq.worker.eager_start import EagerStarter
from jetq.worker.intake import Intake
from jetq.worker.leases import Leases
from jetq.worker.options import WorkerOptions
from jetq.worker.process.loop_watch import LoopWatch
from jetq.worker.schedules.keeper import ScheduleKeeper
from jetq.worker.schedules.ticks import Ticks
from jetq.worker.served_queues import ServedQueues
from jetq.worker.slots import WorkerSlots
from jetq.worker.startup import patiently, unless_stopped
from jetq.worker.status_reporter import StatusReporter
from jetq.worker.stopping import Stopping

__all__ = ["WorkerRun"]

_log = logging.getLogger("jetq.worker")

_DEADLINES_EVERY = 0.05
"""Seconds between looks at deadlines: a timeout is late by at most this time."""

_BURST_POLL = 0.1
"""Seconds between looks whether the queues are empty."""


class WorkerRun:
    """Runs jobs of `app` from `broker`, by `options`, until `stopping` asks for the end or, with `burst`, the queues
    are empty.

    Make this object once the queues are set up, because only then `broker.lease` is the least lease of these queues.
    context: each job runs in a copy of this context. Call the steps in this order: `prepare`, `work`, `end_attempts`,
    `leave`.
    """

    def __init__(self, app: Jetq, options: WorkerOptions, broker: Broker, stopping: Stopping, context: Context) -> None:
        self._options = options
        self._broker = broker
        self._ending = stopping
        self._stopping = stopping.asked
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._taken: deque[Attempt] = deque()
        self._drain_due = self._refill_due = False
        self.serving = False
        self._starter = EagerStarter(self._loop)
        self._run_eagerly = self._starter.run_eagerly
        self.slots = WorkerSlots(options.concurrency, options.max_jobs, self._slotless)
        self.intake = Intake(options.concurrency, options.weights, ahead=options.max_jobs is None)
        self._cancellations = Cancellations(self._find)
        self._reporter = StatusReporter(
            options.name,
            queues=options.queues,
            tasks=options.tasks,
            slots=options.concurrency,
            held=self._held,
            find=self._find,
            stopping=self._stopping.is_set,
        )
        self._queues = ServedQueues(
            broker, options.queues, app.queues, self.intake, deliver=self._on_delivery, on_clear=self._fill_slots
        )
        self.leases = Leases(app.session.connect, broker.lease, options.queues, on_terms_change=self.intake.expect)
        self._handover = Handover(
            broker, self.leases, options.tasks, self.intake, self.slots.room, self._on_delivery, self._stopping
        )
        ticks = Ticks(broker)
        self._keeper = ScheduleKeeper(broker, options.queues, options.schedules, ticks, app.payloads)
        self._runner = AttemptRunner(
            app,
            options,
            broker,
            leases=self.leases,
            handover=self._handover,
            slots=self.slots,
            ticks=ticks,
            admit=self._admit,
            on_end=self._on_end,
            on_storing=self._refill_soon,
        )
        self._run_attempt = self._runner.run
        self._loop_watch = LoopWatch(self._what_blocks)

    # --- status

    @property
    def not_ready_reason(self) -> str | None:
        """Why this run takes no jobs at the moment, or None if it takes jobs. A busy worker counts as taking jobs."""
        if not self.serving:
            return "starting"
        return next((feed.problem for feed in self.intake.feeds if feed.problem is not None), None)

    @property
    def has_lost(self) -> bool:
        """Whether code of jobs still runs although its attempt was given up."""
        return self.serving and self._runner.has_lost

    @property
    def jobs_held(self) -> int:
        """How many jobs this run holds, started or about to be started."""
        return len(self.slots.attempts) + len(self.intake)

    @property
    def jobs_expired(self) -> int:
        """How many jobs came too late to be run."""
        return self._runner.settlement.expired

    @property
    def expects_more(self) -> bool:
        """Whether jobs are still to come that wait in the line of a limit."""
        return self._runner.limits.busy

    def _held(self) -> Iterable[Attempt]:
        return (*self.slots.attempts, *self.intake)

    def _find(self, queue: str, id: str) -> Attempt | None:
        held = ((attempt, attempt.delivery) for attempt in self._held())
        return next((attempt for attempt, each in held if each.id == id and each.queue == queue), None)

    def _what_blocks(self) -> str:
        return running_now(list(self.slots.attempts), self._loop)

    # --- from start to end

    async def prepare(self, levels: dict[str, bool]) -> None:
        """Open the queues, with or without `levels`, and subscribe to all that limits or cancels jobs before the first
        job comes. Each step ends when the worker is stopped."""
        for queue, has_levels in levels.items():
            opening = patiently(f"queue {queue}", partial(self._open, queue, has_levels))
            await unless_stopped(self._stopping, opening)
        self.leases.start()
        # Before the first job comes: a job whose queue or task is paused must not start.
        await unless_stopped(self._stopping, patiently("limits", self._runner.limits.listen))
        await unless_stopped(self._stopping, patiently("workflows", self._runner.members.listen))
        self._handover.listen(self._options.queues)
        await unless_stopped(self._stopping, self._keeper.store())
        options = self._options
        _log.info("worker %s serves %s with %d slots", options.name, ", ".join(options.queues), options.concurrency)

    async def _open(self, queue: str, levels: bool) -> None:
        # Before the queue's feed is opened: a job that is cancelled already must not be started by the first delivery.
        await self._cancellations.listen(self._broker, queue)
        await self._reporter.listen(self._broker, queue)
        await self._queues.open(queue, levels=levels)

    async def work(self) -> None:
        """Take jobs and run them, until the worker is stopped or, with `burst`, until the queues are empty."""
        self._loop_watch.start()
        beside = [
            asyncio.create_task(self._keep_time(), name="jetq-worker-time"),
            asyncio.create_task(self._queues.watch_levels(), name="jetq-worker-levels"),
            asyncio.create_task(self._keeper.keep(), name="jetq-worker-schedules"),
        ]
        try:
            self.serving = True
            self._fill_slots()
            if self._options.burst:
                await self._until_empty()
            else:
                await self._stopping.wait()
        finally:
            for each in beside:
                each.cancel()
            self._loop_watch.stop()
            self._ending.stop()

    async def _until_empty(self) -> None:
        while not self._stopping.is_set():
            if not self.slots.attempts and await self._is_done():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _BURST_POLL)

    async def _is_done(self) -> bool:
        # Look at the attempts again after the queues: a job that came meanwhile may have left the queues empty.
        return await self._queues.are_empty() and not self.slots.attempts and not self.expects_more

    async def end_attempts(self) -> None:
        """Let running jobs end, and give back the others. Return when nothing runs any more, or when the time is
        over."""
        self._runner.limits.stop()
        # First: a job that another worker has just given to this worker is taken, and given back below.
        await self._handover.close()
        await self._ending.end_attempts(self.slots, self.intake, self._give_back)

    async def leave(self) -> None:
        """Settle the jobs that still run, or leave them to their leases. Then let go of the broker, the leases and the
        pools."""
        try:
            some_run = await self._ending.give_up_rest(self.slots.attempts, self._runner.lost)
            self._starter.close()
            if not some_run:  # the slots that running jobs have of limits are free when these jobs are gone
                await self._runner.limits.close()
            await self._broker.confirm()  # an ack that is not confirmed may be lost, and its job would run again
        finally:  # also when this is cancelled: leases must not be renewed for ever
            self.leases.stop()
            self._runner.threads.close()
        await self._runner.processes.aclose()

    # --- the walk of a delivery

    def _on_delivery(self, delivery: Delivery) -> None:
        """Take in a delivery of a feed: the job starts, waits for a slot in the intake, or is given back."""
        if not self.leases.hold(delivery):  # the job runs here already, and must not be started beside itself
            return self.intake.came_back()
        if self._handover.coming:
            self._handover.arrived(delivery)
        attempt = Attempt(delivery)
        if delivery in self._cancellations:
            attempt.cancel()
        if self._stopping.is_set():
            self._give_back(attempt)
        # With several queues or levels each of them has a request, so more jobs can come than there are slots.
        elif self.intake.arrived(attempt, self.slots.free() > 0):
            self._enqueue_for_start(attempt)
        else:
            self._start_waiting()

    def _give_back(self, attempt: Attempt) -> None:
        """Have `attempt` given back in its turn instead of run."""
        attempt.release()
        self._enqueue_for_start(attempt)

    def _start_waiting(self) -> None:
        """Start jobs that wait in the intake, as far as there are free slots."""
        while self.slots.free() > 0 and (attempt := self.intake.next()) is not None:
            self._enqueue_for_start(attempt)

    def _fill_slots(self) -> None:
        """Fill the free slots: with jobs that wait in the intake, and with jobs to ask the broker for."""
        if not self._stopping.is_set():
            if len(self.intake):
                self._start_waiting()
            self.intake.ask(self.slots.free())

    def _enqueue_for_start(self, attempt: Attempt) -> None:
        """Take a slot for `attempt` and queue the attempt: the loop's next step starts it."""
        self.slots.take(attempt)
        self._taken.append(attempt)
        if not self._drain_due:
            self._drain_soon()

    def _drain_soon(self) -> None:
        # Not in this step, which may be a job's own step; and in the worker's context, not in a job's.
        self._drain_due = True
        self._loop.call_soon(self._drain_taken, context=self._context)

    def _drain_taken(self) -> None:
        """Start all queued attempts, each until it first waits, and refill the slots if some may be free."""
        run_eagerly, run = self._run_eagerly, self._run_attempt
        try:
            if self._refill_due:
                self._refill()
            for _ in range(len(self._taken)):  # attempts that come meanwhile wait until acks are sent and messages read
                run_eagerly(run(self._taken.popleft()))
        finally:
            self._drain_due = False
            if self._refill_due:
                self._refill()
            if self._taken and not self._drain_due:
                self._drain_soon()

    def _on_end(self, attempt: Attempt) -> None:
        """Give back the slot of an attempt that is settled, or given up."""
        self.slots.give(attempt)
        if self.slots.exhausted or self._options.should_retire():
            self._ending.stop()
        if not self._refill_due:
            self._refill_soon()

    def _refill_soon(self) -> None:
        """Schedule one look for free slots, for all attempts that end in this step of the loop."""
        self._refill_due = True
        if not self._drain_due:
            self._drain_soon()

    def _refill(self) -> None:
        """Give free slots to waiting jobs: first to jobs at limits, then to jobs that wait elsewhere for this worker,
        then to new jobs."""
        self._refill_due = False
        self._runner.limits.resume()
        self._handover.resume()
        self._fill_slots()

    def _admit(self, others: bool) -> None:
        """Start other jobs beside a suspect again, or start none for now."""
        self.slots.admit(others)
        self._refill_soon()

    def _slotless(self) -> int:
        """Return how many attempts hold no slot: the attempts that wait for a limit, which are never many, and the
        attempts whose result is being stored. Of the latter up to `concurrency` count, so that the number of results
        being stored is bounded."""
        storing, most = self._runner.settlement.storing, self._options.concurrency
        return (storing if storing < most else most) + self._runner.limits.waiting

    # --- time

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(_DEADLINES_EVERY)
            self._loop_watch.turned()
            now = time.monotonic()
            self._time_out(now)
            self._cancellations.forget_old(now)
            self._fill_slots()  # for the slots of requests that ended unanswered
            for attempt in self.intake.surplus(all=self.slots.closed):
                self._give_back(attempt)

    def _time_out(self, now: float) -> None:
        """Interrupt attempts past their deadline, and give up the attempts that ignore the interruption."""
        for attempt in list(self.slots.attempts):
            if attempt.deadline is not None and attempt.deadline <= now and attempt.interruptible:
                if attempt.time_out(now):
                    self._runner.lost.give_up(attempt)
