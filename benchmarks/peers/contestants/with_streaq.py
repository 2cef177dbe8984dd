"""streaQ: Redis streams; a job is acknowledged once it ran, and claimed by another worker after an idle minute.

* `concurrency` = the slots, and as many prefetched: its default (docstring of Worker).
* `ttl=0`: no results (docstring of `Worker.task`). Three tries, its default.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from _protocol import BODY, Options, Store, note, run
from streaq import Worker


def worker_of(options: Options) -> tuple[Worker[Any], Any]:
    """A worker and the task that is asked for: producers have a worker too, which does not run."""
    worker: Worker[Any] = Worker(redis_url=options.url, concurrency=options.slots, handle_signals=False)

    @worker.task(ttl=0)
    async def noop(number: int, sent: float, payload: str) -> None:
        note(number, sent)

    @worker.task(ttl=0)
    def plain(number: int, sent: float, payload: str) -> None:
        note(number, sent)

    return worker, noop if options.job == "loop" else plain


@asynccontextmanager
async def producer(options: Options) -> AsyncIterator[Store]:
    worker, job = worker_of(options)

    async def store(number: int, sent: float) -> None:
        await job.enqueue(number, sent, BODY)

    async with worker:
        yield store


async def work(options: Options, until: Callable[[], Awaitable[None]]) -> None:
    worker, _ = worker_of(options)
    running = asyncio.create_task(worker.run_async())
    await until()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    run(producer=producer, work=work)
