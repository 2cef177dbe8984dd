"""The worker as its users hold it: its options, how it is told to end, and its run."""

from __future__ import annotations

import contextvars
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from jetq.broker import Broker
from jetq.client.app import Jetq, serves
from jetq.client.declared_schedules import definitions
from jetq.errors import DefinitionError
from jetq.model.definitions.checks import check_count, check_duration
from jetq.model.definitions.queue import check_served, check_weight
from jetq.worker.lifespan import around
from jetq.worker.options import WorkerOptions
from jetq.worker.process.ending import HardEnd
from jetq.worker.served_queues import set_up
from jetq.worker.startup import patiently, unless_stopped
from jetq.worker.stopping import Stopping
from jetq.worker.worker_run import WorkerRun

__all__ = ["Worker"]

_log = logging.getLogger("jetq.worker")

_LIFESPAN = "the app's lifespan"
_LEAVE = "the leave that it takes of the broker"


class Worker:
    """Runs the jobs of some queues of `app`.

    queues: their names, or their weights by name; None serves every queue of the app's tasks. concurrency: how many
    jobs run at once, from 1. burst: end when the queues are empty (jobs scheduled for later do not count). grace:
    seconds that running jobs get at shutdown before they are cancelled and given back. max_jobs: take this many jobs,
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
        _check_app(app)
        self.app = app
        self.tasks = dict(app.tasks)
        self.queues = check_served(queues or sorted({task.queue for task in self.tasks.values()}))
        self.concurrency = concurrency
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.grace = grace
        self._options = WorkerOptions(
            name=self.name,
            tasks=self.tasks,
            queues=self.queues,
            weights=_weights(app, queues),
            schedules=definitions(task for task in self.tasks.values() if task.queue in self.queues),
            concurrency=concurrency,
            burst=burst,
            max_jobs=max_jobs,
            should_retire=enough,
            in_time=self._in_time,
        )
        self._stopping = Stopping(grace)
        self._run: WorkerRun | None = None
        """None until there is a broker and its queues are set up."""

    def stop(self) -> None:
        """Stop taking jobs, give back jobs that were not started, and let running jobs end within the grace time."""
        self._stopping.stop()

    def kill(self) -> None:
        """Stop like `stop`, but cancel the running jobs now and give them back."""
        self._stopping.kill()

    def ends_process(self, hard: HardEnd) -> None:
        """Have the process end with this worker, at the latest by `hard`. This also tells `hard` how to list what does
        not end."""
        self._stopping.hard = hard
        hard.left = self._left

    def _left(self) -> Iterator[str]:
        # Copy the attempts in one step, because another thread calls this.
        yield from self._stopping.left([] if self._run is None else list(self._run.slots.attempts))

    @property
    def has_lost(self) -> bool:
        """Whether code of jobs still runs although its attempt was given up."""
        return self._run is not None and self._run.has_lost

    @property
    def running(self) -> int:
        """How many jobs this worker holds, started or about to be started."""
        return 0 if self._run is None else self._run.jobs_held

    @property
    def expired(self) -> int:
        """How many jobs came too late to be run."""
        return 0 if self._run is None else self._run.jobs_expired

    @property
    def expects_more(self) -> bool:
        """Whether jobs are still to come that wait in the line of a limit."""
        return self._run is not None and self._run.expects_more

    @property
    def not_ready_reason(self) -> str | None:
        """Why this worker takes no jobs at the moment, or None if it takes jobs. A busy worker counts as taking
        jobs."""
        if self._stopping.asked.is_set():
            return "stopping"
        return "starting" if self._run is None else self._run.not_ready_reason

    @property
    def retired(self) -> bool:
        """Whether this worker has taken `max_jobs`, or has had `enough`."""
        return (self._run is not None and self._run.slots.exhausted) or self._options.should_retire()

    @serves
    async def run(self) -> None:
        """Work until `stop`, or until the queues are empty with `burst`, then end in order.

        Guarantee: tests/faults/test_shutdown.py: a stop under load loses nothing and charges nothing;
        tests/faults/test_rolling.py: nor do a hundred in a row.
        """
        stopping = self._stopping
        # Copied before the lifespan: jobs must not see what the lifespan sets in its context.
        context = contextvars.copy_context()
        broker = await unless_stopped(stopping.asked, self.app.session.broker(patient=True))
        if broker is None:
            return
        lifespan = None if self.app.lifespan is None else partial(self.app.lifespan, self.app)
        stopping.stage = _LIFESPAN
        try:
            async with around(lifespan, stopping.asked, stopping.left_for_lifespan) as entered:
                if not entered:
                    return
                stopping.stage = ""
                levels = await self._set_up(broker)
                run = self._run = WorkerRun(self.app, self._options, broker, stopping, context)
                await run.prepare(levels)
                try:
                    await run.work()
                finally:
                    stopping.stage = ""
                    # Inside the lifespan, because running jobs may need what the lifespan has opened.
                    await run.end_attempts()
                    stopping.stage = _LIFESPAN
        finally:
            if self._run is not None and self._run.serving:
                # After the lifespan: a job that is cut off with the process runs again a moment later, and by then the
                # process must be gone.
                await self._leave(self._run)

    async def _set_up(self, broker: Broker) -> dict[str, bool]:
        """Set the queues up, and return for each whether it has levels. A queue whose setup was interrupted by a stop
        of the worker is missing."""
        levels: dict[str, bool] = {}
        for queue in self.queues:
            setting_up = patiently(f"queue {queue}", partial(set_up, broker, queue, self.app.queues.get(queue)))
            has_levels = await unless_stopped(self._stopping.asked, setting_up)
            if has_levels is not None:
                levels[queue] = has_levels
        return levels

    async def _leave(self, run: WorkerRun) -> None:
        self._stopping.stage = _LEAVE
        await run.leave()
        self._stopping.stage = ""
        _log.info("worker %s has ended", self.name)


def _check_app(app: object) -> None:
    if not isinstance(app, Jetq):
        raise DefinitionError(f"a worker runs the tasks of an app, and {type(app).__name__} is none")
    if not app.tasks:
        raise DefinitionError(
            "there are no tasks to run", hint="import the modules that define them: jetq worker MODULE..."
        )


def _weights(app: Jetq, queues: Sequence[str] | Mapping[str, int] | None) -> dict[str, int]:
    """Return the weights of queues: the worker's own weights, and the app's weights for the other queues."""
    weights = {name: queue.weight for name, queue in app.queues.items()}
    if isinstance(queues, Mapping):
        weights |= {name: check_weight(name, weight) for name, weight in queues.items()}
    return weights
