"""arq: its jobs stay in Redis until they ran, a worker that was killed gives its jobs to the next.

* `max_jobs` = the slots, `keep_result=0`: no results (API reference, "Worker").
* `poll_delay` of 10 ms: the default of 0.5 s is its idle latency, and with short jobs its rate too (the same).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from _protocol import BODY, Options, Store, note, run
from arq import Worker, create_pool
from arq.connections import RedisSettings


async def noop(context: dict[str, Any], number: int, sent: float, payload: str) -> None:
    note(number, sent)


@asynccontextmanager
async def producer(options: Options) -> AsyncIterator[Store]:
    pool = await create_pool(RedisSettings.from_dsn(options.url))
    yield lambda number, sent: pool.enqueue_job("noop", number, sent, BODY)
    await pool.aclose()


async def work(options: Options, until: Callable[[], Awaitable[None]]) -> None:
    worker = Worker(
        [noop],
        redis_settings=RedisSettings.from_dsn(options.url),
        max_jobs=options.slots,
        keep_result=0,
        poll_delay=0.01,
        handle_signals=False,
    )
    running = asyncio.create_task(worker.async_run())
    await until()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await worker.close()


if __name__ == "__main__":
    run(producer=producer, work=work)
