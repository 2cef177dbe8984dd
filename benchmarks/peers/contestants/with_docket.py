"""docket: Redis streams; a job is acknowledged once it ran, and given to another worker when its worker is gone.

* `concurrency` = the slots (docs, "Production", worker configuration).
* `max_connections` in the URL: every running job takes a connection, and redis-py's pool ends at 100 (docstring of
  ConnectionPool); without it some jobs would wait for their redelivery after five minutes.
* `execution_ttl=0`: no records of jobs that ran, its setting for the highest rate (docstring of Docket).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from _protocol import BODY, Options, Store, note, run
from docket import Docket, Worker


async def noop(number: int, sent: float, payload: str) -> None:
    note(number, sent)


def docket_of(options: Options) -> Docket:
    url = f"{options.url}?max_connections={2 * max(options.callers, options.slots) + 50}"
    return Docket(name="bench", url=url, execution_ttl=timedelta(0))


@asynccontextmanager
async def producer(options: Options) -> AsyncIterator[Store]:
    async with docket_of(options) as docket:
        docket.register(noop)
        yield lambda number, sent: docket.add(noop)(number, sent, BODY)


async def work(options: Options, until: Callable[[], Awaitable[None]]) -> None:
    async with docket_of(options) as docket:
        docket.register(noop)
        async with Worker(docket, concurrency=options.slots) as worker:
            running = asyncio.create_task(worker.run_forever())
            await until()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


if __name__ == "__main__":
    run(producer=producer, work=work)
