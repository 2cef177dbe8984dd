"""SAQ: jobs are kept in Redis until they ran; a sweep takes up those of a worker that was killed, if allowed to.

* `retries=3` and `ttl=-1`: taken up again, no results kept (docstring of `saq.Job`).
* `concurrency` = the slots; `max_concurrent_ops` = the callers, of whom its default lets 20 in (docstring of
  RedisQueue).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from _protocol import BODY, Options, Store, note, run
from saq import Queue, Worker


async def noop(context: dict[str, Any], *, number: int, sent: float, payload: str) -> None:
    note(number, sent)


def plain(context: dict[str, Any], *, number: int, sent: float, payload: str) -> None:
    note(number, sent)


def queue_of(options: Options) -> Queue:
    return Queue.from_url(options.url, max_concurrent_ops=max(20, options.callers))


@asynccontextmanager
async def producer(options: Options) -> AsyncIterator[Store]:
    queue = queue_of(options)
    name = "noop" if options.job == "loop" else "plain"
    await queue.connect()
    yield lambda number, sent: queue.enqueue(name, number=number, sent=sent, payload=BODY, retries=3, ttl=-1)
    await queue.disconnect()


async def work(options: Options, until: Callable[[], Awaitable[None]]) -> None:
    queue = queue_of(options)
    await queue.connect()
    worker = Worker(queue, [noop, plain], concurrency=options.slots)
    running = asyncio.create_task(worker.start())
    await until()
    await worker.stop()
    await running
    await queue.disconnect()


if __name__ == "__main__":
    run(producer=producer, work=work)
