"""jetq: a group and its join, as one workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from _chords import Options, create, options

from jetq import Jetq, Worker, group


def app_of(asked: Options) -> Jetq:
    return Jetq(asked.url, ack_wait=30.0)


async def main(asked: Options) -> None:
    app = app_of(asked)

    @app.task(name="one", queue="chords")
    async def one(n: int) -> int:
        return n

    @app.task(name="total", queue="chords")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    async def chord(size: int) -> Callable[[], Awaitable[int]]:
        flow = await (group(one.bind(n) for n in range(size)) | total).adelay()
        return lambda: flow.aresult(600)

    if asked.command == "work":
        await Worker(app, queues=["chords"], concurrency=asked.slots).run()
    else:
        await create(asked, chord)
    await app.session.aclose()


if __name__ == "__main__":
    asyncio.run(main(options()))
