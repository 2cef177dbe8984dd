"""taskiq on Redis streams: the one of its brokers that acknowledges (README, "Stream").

* `xread_count` of 100, its default, or the slots if there are more; `unacknowledged_lock_timeout`, so that the lock of
  a worker that was killed goes away (docstring of RedisStreamBroker).
* acknowledged when saved, no result backend, 100 async tasks: the defaults of `taskiq worker`. hiredis parses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from _protocol import BODY, Options, Store, note, run
from taskiq import AsyncBroker
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker


async def noop(number: int, sent: float, payload: str) -> None:
    note(number, sent)


def plain(number: int, sent: float, payload: str) -> None:
    note(number, sent)


def broker_of(options: Options) -> AsyncBroker:
    return RedisStreamBroker(options.url, xread_count=max(100, options.slots), unacknowledged_lock_timeout=60.0)


@asynccontextmanager
async def producer(options: Options) -> AsyncIterator[Store]:
    broker = broker_of(options)
    job = broker.register_task(noop if options.job == "loop" else plain, task_name=options.job)
    await broker.startup()
    yield lambda number, sent: job.kiq(number, sent, BODY)
    await broker.shutdown()


async def work(options: Options, until: Callable[[], Awaitable[None]]) -> None:
    broker = broker_of(options)
    broker.register_task(noop, task_name="loop")
    broker.register_task(plain, task_name="threads")
    broker.is_worker_process = True
    await broker.startup()
    running = asyncio.create_task(run_receiver_task(broker, sync_workers=options.slots, max_async_tasks=options.slots))
    await until()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await broker.shutdown()


if __name__ == "__main__":
    run(producer=producer, work=work)
