"""Testers: an app whose jobs a test can see and run, in memory with a clock that the test moves, or on a real
nats-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from datetime import timedelta
from functools import partial
from secrets import token_hex
from typing import Any, ParamSpec, TypeVar

from jetq.broker import Broker
from jetq.broker.connect import Connect
from jetq.client.app import Jetq, replaced_default
from jetq.client.client import Client
from jetq.client.declared_schedules import Definition, definitions
from jetq.client.job import Job
from jetq.client.session import Session
from jetq.client.task import BoundTask, Task
from jetq.memory import FakeClock, MemoryBroker, MemoryStore
from jetq.model.dead_letter import DeadLetter
from jetq.model.definitions.options import call_settings
from jetq.operations.dead_letters import each_dead
from jetq.operations.schedules import put_schedule
from jetq.operations.workflows.creating import WATCH
from jetq.settings import Settings
from jetq.testing.enqueued import EnqueuedJob, as_enqueued, check_parameters, no_such_job
from jetq.testing.faulty import Fault, faulty
from jetq.testing.observed import Ran, Tally, observed
from jetq.testing.performed import Performed
from jetq.units import seconds
from jetq.worker.schedules.ticks import job_of_tick
from jetq.worker.worker import Worker

__all__ = ["AppTester", "Memory", "ServerTester", "in_memory", "is_run_by_tester", "on_server", "run_here"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_MOST_ATTEMPTS = 10_000

_OUTCOMES = {
    "succeeded": "succeeded",
    "retrying": "retried",
    "snoozed": "snoozed",
    "dead": "dead",
    "cancelled": "cancelled",
    "expired": "expired",
}
"""The field of `Ran` that counts each outcome of an attempt."""

_ROUNDED = 0.001
"""Seconds. A due time is at most this much too early as a datetime, which has only microseconds."""

_RUN_BY_TESTER: ContextVar[bool] = ContextVar("jetq_run_by_tester", default=False)
"""Whether this code runs in a worker of `run_until_empty`, or in code that such a worker has started."""

_KEPT = 3600.0
"""Seconds for which `perform` keeps the result of a task that keeps no results."""


class _Tester:
    """The common part of both testers: an app, a worker for it, and its dead letters. faults: the list that
    `jetq.testing.faults` adds to."""

    _look_every = 0.001
    _worker = Worker

    def __init__(self, app: Jetq, tally: Tally, faults: list[Fault]) -> None:
        self.app = app
        self.faults = faults
        self._tally = tally

    def run_until_empty(self) -> Ran:
        """Run a worker until no job is ready, and return what became of the attempts. The worker also runs the jobs
        that jobs enqueue.

        Jobs that are due later or in a paused queue stay. From async code await `arun_until_empty`. Raises
        AssertionError when 10,000 attempts more have ended than jobs were ready at first, because then jobs make jobs
        for ever.
        """
        return run_here(self.arun_until_empty)

    async def arun_until_empty(self) -> Ran:
        """Do as `run_until_empty` on the running loop."""
        self._tally.start_over()
        most = _MOST_ATTEMPTS + await self._ready()
        worker = self._worker(self.app, queues=await self._queues(), grace=0.0)
        context = copy_context()
        context.run(_RUN_BY_TESTER.set, True)
        working = asyncio.create_task(worker.run(), context=context)
        try:
            while not working.done() and (not await self._is_empty() or worker.expects_more):
                await asyncio.sleep(self._look_every)
                if self._tally.ran.attempts > most:
                    raise AssertionError(f"jobs make jobs for ever: {most:,} attempts ended, and more wait")
        finally:
            worker.stop()
            await working
        return self._tally.ran

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters of all queues, by queue, oldest first. From async code await `adead_letters`."""
        return run_here(self.adead_letters)

    async def adead_letters(self) -> list[DeadLetter]:
        """Do as `dead_letters` on the running loop."""
        return [entry.letter async for entry in each_dead(await self.app.session.broker())]

    async def _queues(self) -> list[str]:
        """Return all queues that exist, and those of the app's tasks."""
        broker = await self.app.session.broker()
        existing = {info.name for info in await broker.queues()}
        return sorted(existing | {task.queue for task in self.app.tasks.values()})

    async def _ready(self) -> int:
        broker = await self.app.session.broker()
        return sum(info.ready for info in await broker.queues())

    async def _is_empty(self) -> bool:
        broker = await self.app.session.broker()
        await broker.confirm()
        infos = await broker.queues()
        return all(info.running == 0 and (info.ready == 0 or info.paused_until is not None) for info in infos)


class _WorkerOutOfTime(Worker):
    """A worker for which no time passes: it keeps no rates, and snoozes a job of a paused task in place of waiting."""

    _in_time = False


class AppTester(_Tester):
    """An app on a broker in memory. No job runs before `run_until_empty`, and time passes only by `advance`.

    What the code under test stores is encoded, checked and decoded as always, and run by a real worker.

    app: the app under test. clock: the broker's clock, which starts at the real time. Limits are kept, rates are not.
    """

    _worker = _WorkerOutOfTime

    def __init__(self, app: Jetq, tally: Tally, faults: list[Fault], store: MemoryStore, clock: FakeClock) -> None:
        super().__init__(app, tally, faults)
        self.clock = clock
        self._store = store

    def advance(self, duration: float | timedelta) -> None:
        """Let `duration` pass, in seconds or as timedelta: jobs that fall due become ready, each tick of a schedule
        becomes a job, and results expire. No job runs yet."""
        passed = seconds(duration, "duration")
        if defined := definitions(self.app.tasks.values()):
            run_here(lambda: self._store_schedules(defined))
        self.clock.advance(passed)

    async def _store_schedules(self, defined: Sequence[Definition]) -> None:
        """Store the schedules that a worker would store when it begins. Without them nothing ticks."""
        broker = await self.app.session.broker()
        for record, body in defined:
            await put_schedule(broker, record, body, self.app.payloads)

    def perform(self, task: Task[P, R] | BoundTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Performed[R]:
        """Run one job of `task` once, and return its outcome. From async code await `aperform`. Raises what `.delay`
        raises.

        The job is checked, encoded, decoded and run inside the middleware and by the retry rules like every other job.
        It runs on a broker of its own: no other job runs, and the jobs that it stores are in the returned value.
        """
        return run_here(lambda: self.aperform(task, *args, **kwargs))

    async def aperform(self, task: Task[P, R] | BoundTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Performed[R]:
        """Do as `perform` on the running loop."""
        call = task.bind(*args, **kwargs)
        ttl = _KEPT if call.effective.result_ttl is None else call.effective.result_ttl
        with in_memory(self.app) as alone:
            job = await self.app.aenqueue(call.with_defaults(call_settings({"result_ttl": ttl})))
            alone.faults += self.faults
            alone.clock.advance(sum(_wait(alone, each) + _ROUNDED for each in alone.enqueued()))
            worker = _WorkerOutOfTime(self.app, queues=[call.queue], concurrency=1, max_jobs=1)
            await worker.run()
            return await alone._came_to(job)

    async def _came_to(self, job: Job[R]) -> Performed[R]:
        """Return the outcome of `job`, the first and only job that has run on this broker."""
        ran, existing = self._tally.ran, self.enqueued()
        again = next((each for each in existing if each.id == job.id), None)
        outcome: Any = next((word for word, counted in _OUTCOMES.items() if getattr(ran, counted)), None)
        if outcome is None:
            raise AssertionError(f"job {job.id} has no outcome: its worker died; run_until_empty runs it again")
        after = None if again is None or again.due is None else _wait(self, again)
        return Performed(
            outcome=outcome,
            value=await job.aresult(timeout=0) if outcome == "succeeded" else None,
            after=after,
            error=next(iter(ran.errors), None),
            letter=next(iter(await self.adead_letters()), None),
            enqueued=tuple(each for each in existing if each.id != job.id),
        )

    def enqueued(self, task: Task[..., Any] | str | None = None, **arguments: Any) -> list[EnqueuedJob]:
        """Return the jobs that wait, ready or for later, queue by queue, in the order in which they were stored.

        task: only jobs of this task, given as the task or its name. The jobs that watch over workflows are left out.
        arguments: only jobs with these arguments, and any others. Raises ArgumentError for a name that is no parameter
        of the task.
        """
        tasks = self.app.tasks
        name = _name(task) if task is not None else None
        if name is not None and name in tasks:
            check_parameters(tasks[name], arguments)
        stored = [found for found in self._store.stored_jobs() if found.delivery.task != WATCH or name == WATCH]
        jobs = [as_enqueued(found, self.app, tasks) for found in stored]
        return [job for job in jobs if name in (None, job.task) and job.has(arguments)]

    def assert_enqueued(self, task: Task[..., Any] | str, **arguments: Any) -> EnqueuedJob:
        """Fail unless a job of `task` waits with these arguments, and any others. Return the first such job."""
        jobs = self.enqueued(task, **arguments)
        if not jobs:
            raise AssertionError(no_such_job(_name(task), arguments, self.enqueued()))
        return jobs[0]

    def assert_not_enqueued(self, task: Task[..., Any] | str, **arguments: Any) -> None:
        """Fail if a job of `task` waits with these arguments, and any others."""
        jobs = self.enqueued(task, **arguments)
        if jobs:
            raise AssertionError(f"enqueued: {jobs[0]}")


def _wait(tester: AppTester, job: EnqueuedJob) -> float:
    """Return the seconds until `job` is due."""
    return 0.0 if job.due is None else job.due.timestamp() - tester.clock.now()


class ServerTester(_Tester):
    """An app on a real nats-server, in a namespace of its own."""

    _look_every = 0.02


@contextmanager
def in_memory(app: Jetq | None = None) -> Iterator[AppTester]:
    """Let `app` work in memory, and yield its tester. None means the default app; if there is none, one is made for
    this context.

    While the context is open, tasks without an app of their own belong to this app.
    """
    with Memory().used_by(app) as tester:
        yield tester


class Memory:
    """An empty broker in memory, on which an app can work several times: what is stored stays in between.

    clock: the broker's clock. store: what is stored. faults: the list that `jetq.testing.faults` adds to.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.faults: list[Fault] = []
        self.store = MemoryStore(self.clock, job_of_tick=partial(job_of_tick, enqueued=None))
        self._tally = Tally()

    @contextmanager
    def used_by(self, app: Jetq | None = None) -> Iterator[AppTester]:
        """Let `app` work here, and yield its tester. None means the default app, as for `in_memory`."""
        with replaced_default(app) as tested, _connected_by(tested, self._connect, self._server_time):
            yield AppTester(tested, self._tally, self.faults, self.store, self.clock)

    async def _connect(self, *, patient: bool = False) -> Broker:
        return faulty(observed(MemoryBroker(self.store), self._tally), self.faults)

    def _server_time(self, at: float) -> float:
        """Return a time of this process as one of the broker. The rest of the process keeps real time: a job that is
        due there in a minute is due here in a minute."""
        return at - time.time() + self.clock.now()


@contextmanager
def on_server(url: str, app: Jetq | None = None) -> Iterator[ServerTester]:
    """Let `app` work on the nats-server at `url`, in a new namespace, and yield its tester. Otherwise like
    `in_memory`."""
    from jetq.jetstream import connect_broker  # imported here, so that tests in memory do not need nats

    settings = Settings(servers=(url,), namespace=f"test-{token_hex(4)}")
    tally, faults = Tally(), list[Fault]()

    async def connect(*, patient: bool = False) -> Broker:
        broker = await connect_broker(settings, name="jetq-testing", patient=patient)
        return faulty(observed(broker, tally), faults)

    with replaced_default(app) as tested, _connected_by(tested, connect):
        yield ServerTester(tested, tally, faults)


@contextmanager
def _connected_by(app: Jetq, connect: Connect, instant: Callable[[float], float] = lambda at: at) -> Iterator[None]:
    kept = app.client
    app.go_through(Client(Session(connect, instant)))
    try:
        yield
    finally:
        app.session.close()
        app.go_through(kept)


def _name(task: Task[..., Any] | str) -> str:
    return task if isinstance(task, str) else task.name


def is_run_by_tester() -> bool:
    """Return whether this code runs in a worker of `run_until_empty`: in a job, or in the lifespan or middleware around
    it."""
    return _RUN_BY_TESTER.get()


def run_here(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `work()` on a new loop: in this thread, or in another thread if a loop runs in this one."""

    def run() -> T:
        # With a factory, a Runner leaves the thread's current event loop alone.
        with asyncio.Runner(loop_factory=_unfrozen_loop) as runner:
            return runner.run(work())

    if not _loop_runs_here():
        return run()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def _unfrozen_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers go on while freezegun stops `time.monotonic` (1.5)."""
    loop = asyncio.new_event_loop()
    if hasattr(time, "CLOCK_MONOTONIC"):
        with suppress(AttributeError):  # uvloop's loop has a clock of its own
            setattr(loop, "time", partial(time.clock_gettime, time.CLOCK_MONOTONIC))  # noqa: B010
    return loop


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
