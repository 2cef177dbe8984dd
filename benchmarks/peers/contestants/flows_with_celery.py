"""Celery's chord and chain on Redis, with results there too: acknowledged late, and given back when its worker is lost.

The settings are those of `with_celery.py`, but results are kept, which both need. Its pool is threads, as many as the
slots; callers are threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from _flows import CALLERS, Options, create, options
from celery import Celery, chain, chord


def app_of(asked: Options) -> Celery:
    app = Celery("flows", broker=asked.url, backend=asked.url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=50,
        broker_pool_limit=CALLERS,
        worker_redirect_stdouts=False,
        result_extended=False,
    )
    return app


def main(asked: Options) -> None:
    app = app_of(asked)

    @app.task(name="one")
    def one(n: int) -> int:
        return n

    @app.task(name="more")
    def more(n: int) -> int:
        return n + 1

    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    async def chord_of(size: int) -> Callable[[], Awaitable[int]]:
        result = await asyncio.to_thread(lambda: chord([one.s(n) for n in range(size)])(total.s()))
        return lambda: asyncio.to_thread(result.get, timeout=600)

    async def chain_of(size: int) -> Callable[[], Awaitable[int]]:
        result = await asyncio.to_thread(lambda: chain(one.s(0), *(more.s() for _ in range(size - 1)))())
        return lambda: asyncio.to_thread(result.get, timeout=600)

    if asked.command == "work":
        without = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        app.worker_main(["worker", "-P", "threads", "-c", str(asked.slots), "-l", "ERROR", *without])
    else:
        asyncio.run(create(asked, {"chord": chord_of, "chain": chain_of}))


if __name__ == "__main__":
    main(options())
