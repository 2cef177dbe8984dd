"""A worker inside the test's own event loop, on a namespace of its own."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from jetq import Jetq, Job, Worker
from jetq.client.task import Task
from jetq.worker.worker_run import WorkerRun


def fresh_app(url: str, **keywords: Any) -> Jetq:
    """An app whose namespace nobody else uses."""
    return Jetq(url, namespace=f"t{uuid.uuid4().hex[:12]}", **keywords)


def share(app: Jetq, *tasks: Task[..., Any]) -> None:
    """Make `tasks` those of `app` too, as another process that imports their modules has them."""
    for task in tasks:
        app._registry.add(task)


def tasks_of(module: ModuleType) -> list[Task[..., Any]]:
    """The tasks that a module defines."""
    return [each for each in vars(module).values() if isinstance(each, Task)]


@asynccontextmanager
async def working(app: Jetq, **options: Any) -> AsyncIterator[Worker]:
    """A running worker of `app`; it is stopped in order at the end, and its errors are the test's: at once, if it ends
    before."""
    worker, test = Worker(app, **options), asyncio.current_task()
    assert test is not None
    running = asyncio.create_task(worker.run())
    running.add_done_callback(failed := lambda each: each.exception() and test.cancel("its worker has failed"))
    try:
        yield worker
    finally:
        running.remove_done_callback(failed)
        worker.stop()
        await running
        await app.session.aclose()


def run_of(worker: Worker) -> WorkerRun:
    """The run of a worker that has begun to serve."""
    assert worker._run is not None
    return worker._run


async def until(condition: Callable[[], object], timeout: float = 45.0) -> None:
    """Until `condition()` holds; TimeoutError after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


async def until_state(job: Job[Any], state: str, timeout: float = 45.0) -> None:
    """Until `job` is in that state."""
    async with asyncio.timeout(timeout):
        while await job.astatus() != state:
            await asyncio.sleep(0.02)


async def settled(app: Jetq, timeout: float = 20.0) -> None:
    """Until nothing stands in any queue, so that nothing can run later."""
    broker = await app.session.broker()
    async with asyncio.timeout(timeout):
        while any(info.ready or info.running or info.scheduled for info in await broker.queues()):
            await asyncio.sleep(0.05)


async def seconds_to_store(app: Jetq, count: int) -> float:
    """Return how long this machine takes now to store `count` jobs, judged by a twentieth of them in a queue of their
    own: for a test that wants to be ready before the jobs are due."""
    some = (app.call("tests.pace", {}, queue="pace", delay=3600.0) for _ in range(count // 20))
    before = time.monotonic()
    await app.adelay_many(some)
    taken = time.monotonic() - before
    await (await app.session.broker()).purge("pace")
    return 20 * taken
