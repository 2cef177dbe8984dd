"""jetq as it comes: results off by `-> None`, three attempts, leases, timeouts, typed arguments, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from _protocol import BODY, Options, Store, SyncStore, note, run

from jetq import Jetq, Worker, task

QUEUE = "bench"


@task(queue=QUEUE, name="bench.noop")
async def noop(number: int, sent: float, payload: str) -> None:
    note(number, sent)


@task(queue=QUEUE, name="bench.plain")
def plain(number: int, sent: float, payload: str) -> None:
    note(number, sent)


async def prepare(app: Jetq) -> None:
    """Connect, and have the queue be there as it is from a deployment's second job on."""
    await (await app.session.broker()).setup(QUEUE)


@asynccontextmanager
async def producer(options: Options) -> AsyncIterator[Store]:
    app = Jetq(options.url)
    await prepare(app)
    job = noop if options.job == "loop" else plain
    yield lambda number, sent: job.adelay(number, sent, BODY)
    await app.session.aclose()


@contextmanager
def sync_producer(options: Options) -> Iterator[SyncStore]:
    app = Jetq(options.url)
    app.session.run(lambda: prepare(app))
    yield lambda number, sent: plain.delay(number, sent, BODY)
    app.session.close()


async def work(options: Options, until: Callable[[], Awaitable[None]]) -> None:
    app = Jetq(options.url)
    worker = Worker(app, queues=[QUEUE], concurrency=options.slots)
    running = asyncio.create_task(worker.run())
    await until()
    worker.stop()
    await running


if __name__ == "__main__":
    run(producer=producer, work=work, sync_producer=sync_producer)
