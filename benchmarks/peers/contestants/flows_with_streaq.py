"""streaQ: a pipeline, which is its chain: each task is stored as a dependent of the one before, and takes its value.

The settings are those of `with_streaq.py`, but results are kept, for the five minutes of its default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from _flows import Options, create, options
from streaq import Worker


async def main(asked: Options) -> None:
    worker: Worker[Any] = Worker(redis_url=asked.url, concurrency=asked.slots, handle_signals=False)

    @worker.task()
    async def one(n: int) -> int:
        return n

    @worker.task()
    async def more(n: int) -> int:
        return n + 1

    async def chain(size: int) -> Callable[[], Awaitable[int]]:
        pipeline: Any = one.enqueue(0)
        for _ in range(size - 1):
            pipeline = pipeline.then(more)
        last = await pipeline

        async def value() -> int:
            found: int = (await last.result(600)).result
            return found

        return value

    if asked.command == "work":
        with suppress(asyncio.CancelledError):
            await worker.run_async()
    else:
        async with worker:
            await create(asked, {"chain": chain})


if __name__ == "__main__":
    asyncio.run(main(options()))
