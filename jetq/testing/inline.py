"""Jobs that run where they are enqueued, for scripts, the shell and tests of applications."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar

from jetq.client.app import Jetq
from jetq.client.client import Client
from jetq.client.request import Request
from jetq.client.session import Begin, Session
from jetq.encoding.sealer import Sealer
from jetq.errors import ResultTimeout, Snooze, TaskFailed
from jetq.model.job import EnqueueReceipt
from jetq.model.job_context import JobContext
from jetq.model.result import ResultRecord
from jetq.model.workflows.plan import Plan
from jetq.operations.job_view import stored_state
from jetq.operations.workflows.creating import Created
from jetq.testing.observed import Ran
from jetq.testing.tester import AppTester, in_memory, is_run_by_tester, run_here

__all__ = ["inline"]

T = TypeVar("T")

_LOOK_EVERY = 0.001
"""Seconds between two looks at a job that another caller's worker runs."""


@contextmanager
def inline(app: Jetq | None = None, *, raises: bool = False) -> Iterator[AppTester]:
    """Run each job of `app` that is ready in this process before `.delay` or `.adelay` returns, as long as the context
    is open.

    Otherwise this context is like `in_memory`: arguments are checked, encoded and decoded, and a worker of the app runs
    the job in its lifespan and middleware and by its retry rules. That worker runs on the caller's event loop, or on a
    loop made for it if the caller is not async, until no job is ready. The worker also runs the jobs that a running job
    enqueues, at the same time as that job. Of a workflow all steps have run, as far as they can.

    No job runs before it is due: a job for later, a retry and a snooze wait for `advance` and `run_until_empty` of the
    tester. `.result()` of such a job raises ResultTimeout at once. raises: `.delay` also raises the error of the first
    attempt that failed; without it, only `.result()` raises.
    """
    with in_memory(app) as tester:
        tested = tester.app
        failures = _Failures()
        middleware = tested.middleware
        if raises:
            tested.middleware = (failures.watch, *middleware)
        session = _InlineSession(tested.session.connect, tested.session.instant)
        tested.go_through(_InlineClient(session, tester, failures if raises else None))
        try:
            yield tester
        finally:
            tested.middleware = middleware


def _jobs_of(plan: Plan, name: str) -> Iterator[tuple[str, str]]:
    """Yield the queue and the id of the job of each member of a step that may be ready when the plan is stored."""
    step = plan.steps[name]
    for member in range((step.members or 0) if not step.edges else 1):
        if step.call is not None:
            yield step.call.queue, f"{plan.life}:{name}:{member}"


class _InlineSession(Session):
    """Runs the work of callers that are not async on a loop of its own, because jobs may run there.

    Jobs must not hold up the thread that jetq otherwise uses for that work.
    """

    def run(self, work: Callable[[], Coroutine[Any, Any, T]], begin: Begin[T] | None = None) -> T:
        self._warn_on_running_loop()
        return run_here(work)


class _InlineClient(Client):
    """Stores jobs, and returns after they have run."""

    def __init__(self, session: Session, tester: AppTester, failures: _Failures | None) -> None:
        super().__init__(session)
        self._tester = tester
        self._failures = failures
        self._running = threading.Lock()

    def enqueue_and_wait(self, request: Request) -> EnqueueReceipt:
        return self.session.run(lambda: self.enqueue(request))

    async def enqueue(self, request: Request) -> EnqueueReceipt:
        stored = await super().enqueue(request)
        await self._run([(request.job.queue, stored.id)])
        return stored

    async def enqueue_many(self, requests: Sequence[Request], *, before: int = 0) -> list[EnqueueReceipt]:
        stored = await super().enqueue_many(requests, before=before)
        await self._run([(request.job.queue, each.id) for request, each in zip(requests, stored, strict=True)])
        return stored

    async def create_workflow(
        self,
        sealer: Sealer,
        workflow: str,
        plan: Plan,
        bodies: Mapping[str, Sequence[bytes]],
        *,
        fresh: bool = False,
        anew: bool = False,
    ) -> Created:
        created = await super().create_workflow(sealer, workflow, plan, bodies, fresh=fresh, anew=anew)
        # Of an empty group what follows it is the first to be ready.
        await self._run([job for name in plan.steps for job in _jobs_of(plan, name)])
        return created

    async def end(self, queue: str, id: str, timeout: float | None, *, pushed: bool = True) -> ResultRecord | None:
        if is_run_by_tester():
            return await super().end(queue, id, timeout, pushed=pushed)
        try:
            return await super().end(queue, id, 0.0, pushed=pushed)
        except ResultTimeout:
            raise ResultTimeout(
                f"job {id} has not ended, and nothing runs it before its time in jetq.testing.inline",
                hint="advance() the time of the tester and run_until_empty(); enqueued() lists what waits for when",
            ) from None

    async def _run(self, jobs: Sequence[tuple[str, str]]) -> None:
        """Return when none of `jobs`, given by queue and id, is ready or running any more.

        An enqueue in a job returns at once, because the worker that runs that job also runs the new job.
        """
        if is_run_by_tester() or not self._tester.app.tasks:
            return
        while await self._is_due(jobs):
            if self._running.acquire(blocking=False):
                try:
                    return await self._run_all()
                finally:
                    self._running.release()
            await asyncio.sleep(_LOOK_EVERY)

    async def _run_all(self) -> None:
        """Run what is ready. A job sees no context variables of the code that enqueued it, as on another machine."""
        if self._failures is not None:
            self._failures.errors.clear()
        ran = await asyncio.create_task(self._tester.arun_until_empty(), context=Context())
        if self._failures is not None:
            self._failures.check(ran)

    async def _is_due(self, jobs: Sequence[tuple[str, str]]) -> bool:
        broker = await self.session.broker()
        for queue, id in jobs:
            found = await broker.find(queue, id)
            if found is not None and stored_state(found) != "scheduled":
                return True
        return False


class _Failures:
    """The errors that the attempts of a run have raised."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    async def watch(self, job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        """Note what an attempt raises. This is a middleware, and must be the outermost."""
        try:
            return await call_next()
        except Snooze:
            raise
        except Exception as error:
            self.errors.append(error)
            raise

    def check(self, ran: Ran) -> None:
        """Raise the error of the first attempt that failed in `ran`, or TaskFailed if that attempt failed outside its
        task's code."""
        if not ran.errors:
            return
        if self.errors:
            raise self.errors[0]
        first = ran.errors[0]
        raise TaskFailed(f"{first.type}: {first.message}", type=first.type, remote_traceback="")
