"""jetq: a group and its join, and a chain, each as one workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from _flows import Options, create, options

from jetq import Jetq, Work, Worker, group


def app_of(asked: Options) -> Jetq:
    return Jetq(asked.url, ack_wait=30.0)


async def main(asked: Options) -> None:
    app = app_of(asked)

    @app.task(name="one", queue="flows")
    async def one(n: int) -> int:
        return n

    @app.task(name="more", queue="flows")
    async def more(n: int) -> int:
        return n + 1

    @app.task(name="total", queue="flows")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    async def chord(size: int) -> Callable[[], Awaitable[int]]:
        flow = await (group(one.bind(n) for n in range(size)) | total).adelay()
        return lambda: flow.aresult(600)

    async def chain(size: int) -> Callable[[], Awaitable[int]]:
        work: Work[int] = one.bind(0)
        for _ in range(size - 1):
            work = work | more
        flow = await work.adelay()
        return lambda: flow.aresult(600)

    if asked.command == "work":
        await Worker(app, queues=["flows"], concurrency=asked.slots).run()
    else:
        await create(asked, {"chord": chord, "chain": chain})
    await app.session.aclose()


if __name__ == "__main__":
    asyncio.run(main(options()))
